package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Those of the Rust rows.
const (
	longestPerTask  = 500 * time.Nanosecond
	watchOneOf      = 64
	limit           = 60 * time.Second
	contextChildren = 10
)

func sleep(_, ops int) (measured, error) {
	clock := startClock()
	early := sleepers(ops)
	m := clock.stop(ops)
	return m, check("sleepers that woke early", early, 0)
}

// sleepWarm has the stacks of the first time for the second.
func sleepWarm(_, ops int) (measured, error) {
	if err := check("sleepers that woke early", sleepers(ops), 0); err != nil {
		return measured{}, err
	}
	return sleep(0, ops)
}

// sleepers tells how many of the watched ones woke early.
func sleepers(count int) int64 {
	var group sync.WaitGroup
	var early atomic.Int64
	group.Add(count)
	for id := range count {
		nap := nap(id, count)
		go func() {
			if id%watchOneOf == 0 {
				start := time.Now()
				time.Sleep(nap)
				if time.Since(start) < nap {
					early.Add(1)
				}
			} else {
				time.Sleep(nap)
			}
			group.Done()
		}()
	}
	group.Wait()
	return early.Load()
}

// nap is the sleep of the goroutine numbered id of so many.
func nap(id, tasks int) time.Duration {
	longest := uint64(longestPerTask) * uint64(tasks) / 1_000
	return time.Duration((mix(uint64(id), 4)>>32)%max(longest, 1)) * time.Microsecond
}

// timeout has a context for each round trip, which is what a callee would be handed.
func timeout(_, ops int) (measured, error) {
	clock := startClock()
	there, back := make(chan int), make(chan int)
	go func() {
		for value := range there {
			back <- value + 1
		}
	}()
	sum := 0
	for value := range ops {
		answer, err := roundTrip(value, there, back)
		if err != nil {
			return measured{}, err
		}
		sum += answer
	}
	m := clock.stop(ops)
	close(there)
	return m, check("the sum of the answers", sum, ops*(ops+1)/2)
}

func roundTrip(value int, there chan<- int, back <-chan int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case there <- value:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case answer := <-back:
		return answer, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// contextTree has the cancellation alone under its clock.
func contextTree(_, nodes int) (measured, error) {
	tree := make([]context.Context, nodes)
	cancels := make([]context.CancelFunc, nodes)
	tree[0], cancels[0] = context.WithCancel(context.Background())
	for node := 1; node < nodes; node++ {
		tree[node], cancels[node] = context.WithCancel(tree[(node-1)/contextChildren])
	}
	clock := startClock()
	cancels[0]()
	m := clock.stop(nodes)
	cancelled := 0
	for _, ctx := range tree {
		if ctx.Err() == context.Canceled {
			cancelled++
		}
	}
	return m, check("cancelled nodes", cancelled, nodes)
}

func scopeSpawn(_, ops int) (measured, error) {
	results := make([]int, ops)
	clock := startClock()
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() { results[i] = i + 1 })
	}
	group.Wait()
	m := clock.stop(ops)
	sum := 0
	for _, result := range results {
		sum += result
	}
	return m, check("the sum of the results", sum, ops*(ops+1)/2)
}
