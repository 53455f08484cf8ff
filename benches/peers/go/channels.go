package main

import "sync"

// The sizes of the Rust rows.
const (
	ringTasks      = 1000
	queueCapacity  = 128
	mpmcSide       = 8
	itemSteps      = 2_900
	mutexTasks     = 1000
	faninProducers = 1000
)

// pingpong sends a value to a goroutine and waits for its answer.
func pingpong(capacity int) row {
	return func(_, ops int) (measured, error) {
		clock := startClock()
		there, back := make(chan int, capacity), make(chan int, capacity)
		go func() {
			for value := range there {
				back <- value + 1
			}
		}()
		sum := 0
		for value := range ops {
			there <- value
			sum += <-back
		}
		m := clock.stop(ops)
		close(there)
		return m, check("the sum of the answers", sum, ops*(ops+1)/2)
	}
}

// ring has the root as one of its tasks.
func ring(_, ops int) (measured, error) {
	clock := startClock()
	first := make(chan int)
	last := first
	for range ringTasks - 1 {
		next := make(chan int)
		go pass(last, next)
		last = next
	}
	token := 0
	for range ops / ringTasks {
		first <- token
		token = <-last + 1
	}
	m := clock.stop(ops)
	close(first)
	return m, check("hops of the token", token, ops)
}

func pass(in <-chan int, out chan<- int) {
	for token := range in {
		out <- token + 1
	}
	close(out)
}

func stream(_, ops int) (measured, error) {
	clock := startClock()
	values := make(chan int, queueCapacity)
	go func() {
		produce(values, 0, ops)
		close(values)
	}()
	sum := 0
	for value := range values {
		sum += value
	}
	m := clock.stop(ops)
	return m, checkSum(sum, ops)
}

// produce sends the values from first on.
func produce(values chan<- int, first, count int) {
	for value := first; value < first+count; value++ {
		values <- value
	}
}

func checkSum(sum, ops int) error {
	return check("the sum of the values", sum, ops*(ops-1)/2)
}

func mpmc(_, ops int) (measured, error) {
	m, sum := manyToMany(ops, func(values <-chan int) uint64 {
		sum := 0
		for value := range values {
			sum += value
		}
		return uint64(sum)
	})
	return m, checkSum(int(sum), ops)
}

func mpmcWork(_, ops int) (measured, error) {
	wanted := repeatedSum(ops, item)
	m, sum := manyToMany(ops, func(ids <-chan int) uint64 {
		var sum uint64
		for id := range ids {
			sum += item(id)
		}
		return sum
	})
	return m, check("the sum of all items", sum, wanted)
}

func item(id int) uint64 { return mix(uint64(id%distinctJobs), itemSteps) }

// manyToMany gives the sum of what its consumers return.
func manyToMany(ops int, consume func(<-chan int) uint64) (measured, uint64) {
	clock := startClock()
	values := make(chan int, queueCapacity)
	sums := make(chan uint64, mpmcSide)
	var producers sync.WaitGroup
	producers.Add(mpmcSide)
	share := ops / mpmcSide
	for i := range mpmcSide {
		go func() {
			produce(values, i*share, share)
			producers.Done()
		}()
		go func() { sums <- consume(values) }()
	}
	producers.Wait()
	close(values)
	var sum uint64
	for range mpmcSide {
		sum += <-sums
	}
	return clock.stop(ops), sum
}

// producers starts a goroutine for each channel, with an equal share of the values.
func producers(channels []chan int, ops int) {
	share := ops / len(channels)
	for i := range channels {
		channels[i] = make(chan int)
		go produce(channels[i], i*share, share)
	}
}

func select4(_, ops int) (measured, error) {
	clock := startClock()
	var channels [4]chan int
	producers(channels[:], ops)
	a, b, c, d := channels[0], channels[1], channels[2], channels[3]
	sum := 0
	for range ops {
		var value int
		select {
		case value = <-a:
		case value = <-b:
		case value = <-c:
		case value = <-d:
		}
		sum += value
	}
	m := clock.stop(ops)
	return m, checkSum(sum, ops)
}

func mutex(_, ops int) (measured, error) {
	clock := startClock()
	var lock sync.Mutex
	var group sync.WaitGroup
	count := 0
	group.Add(mutexTasks)
	for range mutexTasks {
		go func() {
			for range ops / mutexTasks {
				lock.Lock()
				count++
				lock.Unlock()
			}
			group.Done()
		}()
	}
	group.Wait()
	m := clock.stop(ops)
	return m, check("the count", count, ops)
}

func sieve(_, ops int) (measured, error) {
	clock := startClock()
	numbers := make(chan int)
	go func() {
		for n := 2; ; n++ {
			numbers <- n
		}
	}()
	last := numbers
	prime := 0
	for range ops {
		prime = <-last
		next := make(chan int)
		go filter(last, next, prime)
		last = next
	}
	m := clock.stop(ops)
	return m, check("the last prime", prime, nthPrime(ops))
}

func filter(in <-chan int, out chan<- int, prime int) {
	for n := range in {
		if n%prime != 0 {
			out <- n
		}
	}
}

// nthPrime finds the prime that a sieve must arrive at, by trial division.
func nthPrime(nth int) int {
	var primes []int
candidates:
	for n := 2; len(primes) < nth; n++ {
		for _, prime := range primes {
			if prime*prime > n {
				break
			}
			if n%prime == 0 {
				continue candidates
			}
		}
		primes = append(primes, n)
	}
	return primes[nth-1]
}

func fanin(_, ops int) (measured, error) {
	clock := startClock()
	values := make(chan int)
	share := ops / faninProducers
	for i := range faninProducers {
		go produce(values, i*share, share)
	}
	sum := 0
	for range ops {
		sum += <-values
	}
	m := clock.stop(ops)
	return m, checkSum(sum, ops)
}
