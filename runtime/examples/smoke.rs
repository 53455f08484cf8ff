use std::time::Instant;
fn fib(n: u64) -> u64 { if n < 2 { return n } let h = greenloom::spawn(move || fib(n-1)); let b = fib(n-2); h.join().unwrap() + b }
fn bench(p: usize) {
    let rt = greenloom::Runtime::builder().processors(p).build().unwrap();
    rt.run(move || {
        let n = 1_000_000u64;
        for _ in 0..3 {
        let t = Instant::now();
        for _ in 0..n { greenloom::spawn(|| ()).join().unwrap(); }
        println!("P{p} spawn_join {:.1}", t.elapsed().as_nanos() as f64 / n as f64);
        }
        for _ in 0..3 {
        let t = Instant::now();
        let hs: Vec<_> = (0..100).map(|_| greenloom::spawn(|| for _ in 0..40_000 { greenloom::yield_now() })).collect();
        for h in hs { h.join().unwrap() }
        println!("P{p} yield {:.1}", t.elapsed().as_nanos() as f64 / 4e6);
        }
        for _ in 0..3 {
        let t = Instant::now();
        assert_eq!(fib(27), 196418);
        println!("P{p} fib {:.1}", t.elapsed().as_nanos() as f64 / 317811.0);
        }
    });
}
fn main() {
    assert_eq!(greenloom::run(|| 41 + 1), 42);
    bench(1);
    bench(2);
    println!("done");
}
