// The Go peer of greenloom-bench: one process runs one row once and prints one line of JSON.
//
// Usage: greenloom-bench-go ROW SIZE OPS, with GOMAXPROCS in the environment. SIZE is what the row
// takes (n of fib, the board of nqueens, else OPS); OPS is what its time is divided by.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// measured is what one run of a row came to.
type measured struct {
	nsPerOp, cpuNsPerOp float64
	bytesPerTask        *float64
}

type row func(size, ops int) (measured, error)

var rows = map[string]row{
	"spawn":         spawn,
	"spawn_join":    spawnJoin,
	"spawn_chain":   spawnChain,
	"yield":         yields(100),
	"yield_100k":    yields(100_000),
	"parked":        parked,
	"skynet":        skynetRow,
	"fib":           fibRow,
	"nqueens":       nqueens,
	"pool":          pool,
	"hog":           hog,
	"pingpong":      pingpong(0),
	"pingpong_buf":  pingpong(1),
	"ring":          ring,
	"stream":        stream,
	"mpmc":          mpmc,
	"mpmc_work":     mpmcWork,
	"select4":       select4,
	"select64":      select64,
	"mutex":         mutex,
	"sieve":         sieve,
	"fanin":         fanin,
	"sleep":         sleep,
	"sleep_warm":    sleepWarm,
	"sleep_million": sleep,
	"timeout":       timeout,
	"context_tree":  contextTree,
	"scope_spawn":   scopeSpawn,
}

// clock runs from the first operation of a row to its last.
type clock struct {
	start time.Time
	cpu   time.Duration
}

func startClock() clock {
	cpu := cpuTime()
	return clock{time.Now(), cpu}
}

func (c clock) stop(ops int) measured {
	wall := time.Since(c.start)
	cpu := cpuTime() - c.cpu
	return measured{
		nsPerOp:    float64(wall.Nanoseconds()) / float64(ops),
		cpuNsPerOp: float64(cpu.Nanoseconds()) / float64(ops),
	}
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// check fails a row whose result is not what it must be.
func check[T comparable](what string, found, wanted T) error {
	if found != wanted {
		return fmt.Errorf("wrong result: %s is %v, must be %v", what, found, wanted)
	}
	return nil
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: greenloom-bench-go ROW SIZE OPS")
	}
	body, ok := rows[args[0]]
	if !ok {
		return fmt.Errorf("no row %q", args[0])
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ops, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	result, err := body(size, ops)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Row          string    `json:"row"`
		Runtime      string    `json:"runtime"`
		Procs        int       `json:"procs"`
		Ops          int       `json:"ops"`
		NsPerOp      float64   `json:"ns_per_op"`
		CPUNsPerOp   float64   `json:"cpu_ns_per_op"`
		BytesPerTask *float64  `json:"bytes_per_task,omitempty"`
		Samples      []float64 `json:"samples"`
	}{
		args[0], "go", runtime.GOMAXPROCS(0), ops,
		result.nsPerOp, result.cpuNsPerOp, result.bytesPerTask, []float64{result.nsPerOp},
	})
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
