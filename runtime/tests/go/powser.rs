//! Power series as channels of rationals (M. Douglas McIlroy, "Squinting at Power Series", and two of Go's test programs).
//!
//! A series is a party that gives its next coefficient on demand; sums, products and so on are parties that ask others. Some feed
//! on themselves. Everything runs twice: with a pair of channels to each series, for demands and for coefficients, and with one
//! channel on which each demand brings the channel for its answer, and coefficients have no type.

mod rational;
mod wiring;
mod works;

use rational::{ONE, Rat, ZERO, int, rat};
use test_support::everywhere::everywhere;
use wiring::{Pairs, Replies, Series, Term, Wiring};
use works::Works;

/// Takes the first coefficients of the series, sees that they are these, and that then all parties end.
#[track_caller]
fn check<W: Wiring>(make: impl FnOnce(&Works<W>) -> Series<W>, expected: &[Rat]) {
    check_terms(make, &expected.iter().copied().map(Some).collect::<Vec<_>>());
}

/// As [`check`], of a polynomial that has no more coefficients than these.
#[track_caller]
fn check_all<W: Wiring>(make: impl FnOnce(&Works<W>) -> Series<W>, expected: &[Rat]) {
    check_terms(make, &expected.iter().copied().map(Some).chain([None]).collect::<Vec<_>>());
}

#[track_caller]
fn check_terms<W: Wiring>(make: impl FnOnce(&Works<W>) -> Series<W>, expected: &[Term]) {
    let (works, ended) = Works::new();
    let series = make(&works);
    drop(works);
    let got: Vec<_> = expected.iter().map(|_| series.next().expect("a party has failed")).collect();
    assert_eq!(got, expected);
    drop(series);
    ended.wait();
}

#[test]
fn rationals_are_kept_in_lowest_terms() {
    assert_eq!(rat(6, -4), Rat { num: -3, den: 2 });
    assert_eq!(rat(1, 2) + rat(1, 3), rat(5, 6));
    assert_eq!(rat(1, 2) + rat(-1, 2), ZERO);
    assert_eq!(rat(2, 3) * rat(-3, 4), rat(-1, 2));
    assert_eq!(rat(-2, 3).inverse(), rat(-3, 2));
}

/// A test of each wiring.
macro_rules! with_both_wirings {
    ($($(#[doc = $doc:literal])* fn $name:ident<$wiring:ident>() $body:block)*) => {$(
        $(#[doc = $doc])*
        fn $name<$wiring: Wiring>() $body
    )*
        mod on_pairs_of_channels {
            $(#[test] fn $name() { super::everywhere(super::$name::<super::Pairs>) })*
        }
        mod on_channels_of_channels {
            $(#[test] fn $name() { super::everywhere(super::$name::<super::Replies>) })*
        }
    };
}

/// 0, 1, 2, … as rationals, by a function.
fn terms(n: i128, f: impl Fn(i128) -> Rat) -> Vec<Rat> {
    (0..n).map(f).collect()
}

fn factorial(n: i128) -> i128 {
    (1..=n).product()
}

with_both_wirings! {
    fn constant_series_add_up<W>() {
        check::<W>(|w| w.ones(), &[ONE; 10]);
        check::<W>(|w| w.add(w.ones(), w.ones()), &[int(2); 10]);
        check::<W>(|w| w.add(w.ones(), w.repeat(int(2))), &[int(3); 10]);
        check::<W>(|w| w.subtract(w.ones(), w.repeat(int(2))), &[int(-1); 10]);
        check::<W>(|w| w.scale(rat(-1, 2), w.repeat(int(2))), &[int(-1); 10]);
    }

    fn polynomials_end<W>() {
        let [p, q] = [[1, 2, 3], [4, 5, 6]].map(|p| p.map(int));
        check_all::<W>(move |w| w.polynomial(p), &p);
        check_all::<W>(move |w| w.add(w.polynomial(p), w.polynomial([])), &p);
        check_all::<W>(move |w| w.add(w.polynomial([ONE]), w.polynomial(p)), &[2, 2, 3].map(int));
        check_all::<W>(move |w| w.add(w.polynomial(p), w.polynomial(q)), &[5, 7, 9].map(int));
        check::<W>(move |w| w.add(w.polynomial(p), w.ones()), &[2, 3, 4, 1, 1].map(int));
        check_all::<W>(move |w| w.multiply(w.polynomial(p), w.polynomial(q)), &[4, 13, 28, 27, 18].map(int));
        check_all::<W>(move |w| w.multiply(w.polynomial(p), w.polynomial([])), &[]);
        check_all::<W>(move |w| w.differentiate(w.polynomial(p)), &[2, 6].map(int));
        check_all::<W>(move |w| w.differentiate(w.polynomial([ONE])), &[]);
        check_all::<W>(move |w| w.integrate(int(9), w.polynomial(p)), &[9, 1, 1, 1].map(int));
        check_all::<W>(move |w| w.tail(w.shift(ZERO, w.polynomial(p))), &p);
    }

    fn both_ends_of_a_split_give_the_same_at_their_own_pace<W>() {
        check::<W>(
            |w| {
                let [ahead, behind] = w.split(w.integrate(ZERO, w.ones()));
                // The first runs five terms ahead of the second, and once the second three ahead of it.
                w.make(move |_, out| {
                    for _ in 0..5 {
                        out.give(|| ahead.next())?;
                    }
                    for _ in 0..8 {
                        out.give(|| behind.next())?;
                    }
                    for _ in 0..3 {
                        out.give(|| ahead.next())?;
                    }
                    Ok(())
                })
            },
            &[(0..5), (0..8), (5..8)].into_iter().flatten().map(|n| if n == 0 { ZERO } else { rat(1, n) }).collect::<Vec<_>>(),
        );
    }

    fn a_split_serves_one_reader_after_the_other_has_gone<W>() {
        for leaves in [0, 1] {
            check::<W>(
                move |w| {
                    let pair = w.split(w.integrate(ONE, w.ones()));
                    w.make(move |_, out| {
                        let [leaving, staying] = if leaves == 0 { pair } else { let [a, b] = pair; [b, a] };
                        for _ in 0..3 {
                            out.give(|| leaving.next())?;
                        }
                        drop(leaving);
                        out.copy(&staying)
                    })
                },
                &[ONE, ONE, rat(1, 2), ONE, ONE, rat(1, 2), rat(1, 3), rat(1, 4), rat(1, 5)],
            );
        }
    }

    fn derivatives_and_integrals<W>() {
        check::<W>(|w| w.differentiate(w.ones()), &terms(10, |n| int(n + 1)));
        check::<W>(|w| w.integrate(ZERO, w.ones()), &terms(10, |n| if n == 0 { ZERO } else { rat(1, n) }));
        check::<W>(|w| w.differentiate(w.integrate(int(7), w.ones())), &[ONE; 10]);
    }

    fn products<W>() {
        check::<W>(|w| w.multiply(w.ones(), w.ones()), &terms(10, |n| int(n + 1)));
        check::<W>(|w| w.multiply(w.ones(), w.polynomial([ONE, -ONE])), &[1, 0, 0, 0, 0, 0, 0, 0].map(int));
        check_all::<W>(|w| w.binomial(int(5)), &[1, 5, 10, 10, 5, 1].map(int));
        check::<W>(
            |w| w.multiply(w.binomial(rat(1, 2)), w.binomial(rat(1, 2))),
            &[1, 1, 0, 0, 0, 0, 0, 0].map(int),
        );
    }

    fn reciprocals<W>() {
        check::<W>(|w| w.reciprocal(w.polynomial([ONE, -ONE])), &[ONE; 10]);
        check::<W>(|w| w.reciprocal(w.ones()), &[1, -1, 0, 0, 0, 0, 0, 0].map(int));
        // Fibonacci's numbers.
        check::<W>(|w| w.reciprocal(w.polynomial([ONE, -ONE, -ONE])), &[1, 1, 2, 3, 5, 8, 13, 21, 34, 55].map(int));
        // The secant: Euler's numbers.
        check::<W>(
            |w| w.reciprocal(w.cosine()),
            &[ONE, ZERO, rat(1, 2), ZERO, rat(5, 24), ZERO, rat(61, 720), ZERO, rat(277, 8064)],
        );
    }

    fn exponentials<W>() {
        check::<W>(|w| w.exponential(w.x()), &terms(10, |n| rat(1, factorial(n))));
        // The constant term is taken for 0: this is exp(x + x^2 + …).
        let numerators = [1, 1, 3, 13, 73, 501, 4051, 37633, 394353, 4596553];
        check::<W>(|w| w.exponential(w.ones()), &terms(10, |n| rat(numerators[n as usize], factorial(n))));
        check::<W>(|w| w.exponential(w.log_of_1_plus_x()), &[1, 1, 0, 0, 0, 0, 0, 0].map(int));
    }

    fn sine_and_cosine<W>() {
        let sign = |n: i128| if n % 4 < 2 { 1 } else { -1 };
        check::<W>(|w| w.sine(), &terms(10, |n| rat((n % 2) * sign(n), factorial(n))));
        check::<W>(|w| w.cosine(), &terms(10, |n| rat((1 - n % 2) * sign(n), factorial(n))));
        check::<W>(
            |w| {
                let square = |u| {
                    let [u, again] = w.split(u);
                    w.multiply(u, again)
                };
                w.add(square(w.sine()), square(w.cosine()))
            },
            &[1, 0, 0, 0, 0, 0, 0, 0].map(int),
        );
    }

    fn substitutions<W>() {
        check::<W>(|w| w.substitute_monomial(w.ones(), -ONE, 2), &[1, 0, -1, 0, 1, 0, -1, 0, 1, 0].map(int));
        check_all::<W>(|w| w.substitute_monomial(w.polynomial([1, 2].map(int)), int(3), 2), &[1, 0, 6, 0].map(int));
        // 1 / (1 - x - x^2), again.
        check::<W>(|w| w.substitute(w.ones(), w.polynomial([0, 1, 1].map(int))), &[1, 1, 2, 3, 5, 8, 13].map(int));
        check::<W>(|w| w.substitute(w.exponential(w.x()), w.log_of_1_plus_x()), &[1, 1, 0, 0, 0, 0].map(int));
    }

    fn tangent_and_arc_tangent<W>() {
        let tangent = [ZERO, ONE, ZERO, rat(1, 3), ZERO, rat(2, 15), ZERO, rat(17, 315), ZERO, rat(62, 2835)];
        let arc_tangent = terms(10, |n| if n % 2 == 0 { ZERO } else { rat(2 - n % 4, n) });
        check::<W>(|w| w.arc_tangent(), &arc_tangent);
        check::<W>(|w| w.tangent(), &tangent);
        check::<W>(|w| w.multiply(w.sine(), w.reciprocal(w.cosine())), &tangent[..8]);
        check::<W>(|w| w.substitute(w.arc_tangent(), w.tangent()), &[0, 1, 0, 0, 0, 0].map(int));
    }

    fn reversion<W>() {
        check_all::<W>(|w| w.revert(w.polynomial([ZERO, rat(1, 2)])), &[0, 2].map(int));
        // Catalan's numbers.
        check::<W>(|w| w.revert(w.polynomial([0, 1, -1].map(int))), &[0, 1, 1, 2, 5, 14].map(int));
        check::<W>(|w| w.revert(w.arc_tangent()), &[ZERO, ONE, ZERO, rat(1, 3), ZERO, rat(2, 15)]);
    }
}
