package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func spawn(_, ops int) (measured, error) {
	clock := startClock()
	var group sync.WaitGroup
	group.Add(ops)
	for range ops {
		go func() { group.Done() }()
	}
	group.Wait()
	return clock.stop(ops), nil
}

func spawnJoin(_, ops int) (measured, error) {
	clock := startClock()
	sum := 0
	for i := range ops {
		result := make(chan int, 1)
		go func() { result <- i }()
		sum += <-result
	}
	m := clock.stop(ops)
	return m, check("the sum of all results", sum, ops*(ops-1)/2)
}

func spawnChain(_, ops int) (measured, error) {
	clock := startClock()
	done := make(chan struct{})
	go link(ops-1, done)
	<-done
	return clock.stop(ops), nil
}

func link(left int, done chan<- struct{}) {
	if left == 0 {
		close(done)
	} else {
		go link(left-1, done)
	}
}

// yields starts all goroutines before the clock, which covers their release as well.
func yields(tasks int) row {
	return func(_, ops int) (measured, error) {
		var ready, group sync.WaitGroup
		var done atomic.Int64
		start := make(chan struct{})
		ready.Add(tasks)
		group.Add(tasks)
		for range tasks {
			go func() {
				ready.Done()
				<-start
				yielded := 0
				for range ops / tasks {
					runtime.Gosched()
					yielded++
				}
				done.Add(int64(yielded))
				group.Done()
			}()
		}
		ready.Wait()
		clock := startClock()
		close(start)
		group.Wait()
		m := clock.stop(ops)
		return m, check("yields", done.Load(), int64(ops))
	}
}

func parked(_, ops int) (measured, error) {
	before, err := memory()
	if err != nil {
		return measured{}, err
	}
	clock := startClock()
	var started, group sync.WaitGroup
	var finished atomic.Int64
	release := make(chan struct{})
	started.Add(ops)
	group.Add(ops)
	for range ops {
		go func() {
			started.Done()
			<-release
			finished.Add(1)
			group.Done()
		}()
	}
	started.Wait()
	// The last to start have counted, and may still be on their way into the receive.
	time.Sleep(5 * time.Millisecond)
	after, err := memory()
	if err != nil {
		return measured{}, err
	}
	if err := check("goroutines finished before their release", finished.Load(), 0); err != nil {
		return measured{}, err
	}
	close(release)
	group.Wait()
	m := clock.stop(ops)
	bytes := math.Round(float64(after-before) / float64(ops))
	m.bytesPerTask = &bytes
	return m, check("goroutines finished after it", finished.Load(), int64(ops))
}

// memory is the resident bytes of this process and the page tables that map them.
func memory() (int64, error) {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer status.Close()
	var total int64
	found := 0
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			var kib int64
			if _, err := fmt.Sscanf(strings.TrimSpace(line[6:]), "%d kB", &kib); err != nil {
				return 0, err
			}
			total += kib * 1024
			found++
		}
	}
	return total, check("the memory lines of /proc/self/status", found, 2)
}

const skynetChildren = 10

func skynetRow(leaves, ops int) (measured, error) {
	clock := startClock()
	result := make(chan int, 1)
	go skynet(result, 0, leaves)
	sum := <-result
	m := clock.stop(ops)
	return m, check("the sum of the leaves", sum, leaves*(leaves-1)/2)
}

func skynet(result chan<- int, first, leaves int) {
	if leaves == 1 {
		result <- first
		return
	}
	part := leaves / skynetChildren
	children := make(chan int, skynetChildren)
	for i := range skynetChildren {
		go skynet(children, first+i*part, part)
	}
	sum := 0
	for range skynetChildren {
		sum += <-children
	}
	result <- sum
}

func fibRow(n, ops int) (measured, error) {
	clock := startClock()
	result := make(chan int, 1)
	go func() { result <- fib(n) }()
	found := <-result
	m := clock.stop(ops)
	wanted, next := 0, 1
	for range n {
		wanted, next = next, wanted+next
	}
	return m, check("the Fibonacci number", found, wanted)
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	first := make(chan int, 1)
	go func() { first <- fib(n - 1) }()
	second := fib(n - 2)
	return <-first + second
}

// board is a board with a queen in each of its first rows; bits are columns.
type board struct {
	all, columns, left, right uint32
	row                       int
}

// forkedRows is how many rows get a goroutine per queen; below them a goroutine searches in a loop.
const forkedRows = 6

func (b board) free() uint32 { return b.all &^ (b.columns | b.left | b.right) }

func (b board) with(column uint32) board {
	return board{b.all, b.columns | column, ((b.left | column) << 1) & b.all, (b.right | column) >> 1, b.row + 1}
}

func (b board) count() int {
	if b.columns == b.all {
		return 1
	}
	solutions := 0
	for free := b.free(); free != 0; free &= free - 1 {
		solutions += b.with(free & -free).count()
	}
	return solutions
}

func nqueens(n, ops int) (measured, error) {
	clock := startClock()
	solutions := queens(board{all: 1<<n - 1})
	m := clock.stop(ops)
	return m, check("the number of solutions", solutions, board{all: 1<<n - 1}.count())
}

func queens(b board) int {
	if b.row >= forkedRows {
		return b.count()
	}
	results := make(chan int, 32)
	children := 0
	for free := b.free(); free != 0; free &= free - 1 {
		next := b.with(free & -free)
		go func() { results <- queens(next) }()
		children++
	}
	solutions := 0
	for range children {
		solutions += <-results
	}
	return solutions
}

// jobSteps and distinctJobs are those of the Rust rows: the same count of the same steps.
const (
	jobSteps     = 29_000
	distinctJobs = 16
	poolWorkers  = 16
	poolQueue    = 64
)

//go:noinline
func mix(x uint64, steps int) uint64 {
	for range steps {
		x = (x^(x>>29))*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407
	}
	return x
}

func job(id int) uint64 { return mix(uint64(id%distinctJobs), jobSteps) }

// repeatedSum is the sum of the results of so many jobs, which repeat.
func repeatedSum(count int, job func(int) uint64) uint64 {
	var sum uint64
	for id := range min(distinctJobs, count) {
		repeats := (count - id + distinctJobs - 1) / distinctJobs
		sum += job(id) * uint64(repeats)
	}
	return sum
}

func pool(_, ops int) (measured, error) {
	wanted := repeatedSum(ops, job)
	clock := startClock()
	jobs := make(chan int, poolQueue)
	sums := make(chan uint64, poolWorkers)
	for range poolWorkers {
		go func() {
			var sum uint64
			for id := range jobs {
				sum += job(id)
			}
			sums <- sum
		}()
	}
	for id := range ops {
		jobs <- id
	}
	close(jobs)
	var sum uint64
	for range poolWorkers {
		sum += <-sums
	}
	m := clock.stop(ops)
	return m, check("the sum of all jobs", sum, wanted)
}

const (
	tick             = time.Millisecond
	hogsPerProcessor = 2
)

// hog starts the loops and ticks on the goroutine that started them: Go preempts both.
func hog(_, ops int) (measured, error) {
	var stop atomic.Bool
	var group sync.WaitGroup
	clock := startClock()
	for seed := range hogsPerProcessor * runtime.GOMAXPROCS(0) {
		group.Add(1)
		go func() {
			x := uint64(seed)
			for !stop.Load() {
				x = mix(x, 1000)
			}
			group.Done()
		}()
	}
	var late time.Duration
	for range ops {
		start := time.Now()
		time.Sleep(tick)
		late += max(0, time.Since(start)-tick)
	}
	stop.Store(true)
	m := clock.stop(ops)
	group.Wait()
	m.nsPerOp = float64(late.Nanoseconds()) / float64(ops)
	return m, nil
}
