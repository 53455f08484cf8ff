//! Who makes the series: sources, splits, arithmetic, functions.

use std::marker::PhantomData;

use greenloom::channel::{Receiver, Sender, bounded, never};
use greenloom::select;

use super::rational::{ONE, Rat, ZERO, int, rat};
use super::wiring::{Gone, Maker, Series, Wiring, next_of_both, series};
use test_support::everywhere::go;

/// Never made: a channel of these tells by disconnecting, once everyone who holds a sender has ended.
enum Never {}

/// Starts the parties, and can wait for the end of all.
pub struct Works<W: Wiring> {
    alive: Sender<Never>,
    _wiring: PhantomData<W>,
}

impl<W: Wiring> Clone for Works<W> {
    fn clone(&self) -> Self {
        Self { alive: self.alive.clone(), _wiring: PhantomData }
    }
}

/// Waits for the end of all that some works have started.
pub struct Ended(Receiver<Never>);

impl Ended {
    pub fn wait(self) {
        // It never gets one.
        assert!(self.0.recv().is_err());
    }
}

/// One output of a split series. The end of a principal one's reader is the end of the split.
struct Tap<W: Wiring> {
    maker: Maker<W>,
    principal: bool,
    /// Whether its reader has gone.
    gone: bool,
}

impl<W: Wiring> Tap<W> {
    fn new(maker: Maker<W>, principal: bool) -> Self {
        Self { maker, principal, gone: false }
    }
}

impl<W: Wiring> Works<W> {
    pub fn new() -> (Self, Ended) {
        let (alive, ended) = bounded(0);
        (Self { alive, _wiring: PhantomData }, Ended(ended))
    }

    fn go(&self, body: impl FnOnce() -> Result<(), Gone> + Send + 'static) {
        let alive = self.alive.clone();
        // Nobody joins it: that all have ended is seen by `alive`.
        drop(go(move || {
            let _alive = alive;
            // Whoever it worked for has ended, or worked for has; its own end tells the others.
            let _ = body();
        }));
    }

    /// The series that `body` makes.
    pub fn make(&self, body: impl FnOnce(&Self, &Maker<W>) -> Result<(), Gone> + Send + 'static) -> Series<W> {
        let (maker, made) = series();
        let works = self.clone();
        self.go(move || body(&works, &maker));
        made
    }

    // Splitting.

    /// The same series twice, to be read at different rates.
    pub fn split(&self, of: Series<W>) -> [Series<W>; 2] {
        let ((a, first), (b, second)) = (series(), series());
        self.start_split(of, [Tap::new(a, false), Tap::new(b, false)]);
        [first, second]
    }

    /// A series made from itself. When nobody reads the result any more it ends, though it still reads itself.
    pub fn fix(&self, f: impl FnOnce(&Self, Series<W>) -> Series<W>) -> Series<W> {
        let ((a, inner), (b, result)) = (series(), series());
        let of = f(self, inner);
        self.start_split(of, [Tap::new(a, false), Tap::new(b, true)]);
        result
    }

    fn start_split(&self, of: Series<W>, taps: [Tap<W>; 2]) {
        let (release, wait) = bounded(1);
        release.send(()).unwrap();
        let works = self.clone();
        self.go(move || works.serve_once(of, taps, wait));
    }

    /// Takes one term, on the first demand for it, and lives until it has gone to both outputs.
    ///
    /// Of all the generations alive, the newest serves the output that is ahead, always the first here; the oldest serves the one
    /// behind, and tells the next when it has.
    fn serve_once(&self, of: Series<W>, mut taps: [Tap<W>; 2], wait: Receiver<()>) -> Result<(), Gone> {
        let mut both = false;
        let ask = loop {
            let open = |tap: &Tap<W>, serve: bool| if serve && !tap.gone { tap.maker.asked.clone() } else { never() };
            let (ahead, behind) = (open(&taps[0], true), open(&taps[1], both));
            let (i, ask) = select! {
                recv(ahead) -> ask => (0, ask),
                recv(behind) -> ask => (1, ask),
                recv(if both { never() } else { wait.clone() }) -> res => {
                    res?;
                    both = true;
                    continue;
                }
            };
            if let Ok(ask) = ask {
                if i == 1 {
                    taps.swap(0, 1);
                }
                break ask;
            }
            if taps[i].principal || taps[1 - i].gone {
                return Err(Gone);
            }
            taps[i].gone = true;
        };
        let (release, next_wait) = bounded(0);
        let next = taps.each_ref().map(|tap| Tap { maker: tap.maker.again(), ..*tap });
        let (works, next_of) = (self.clone(), of.again());
        self.go(move || works.serve_once(next_of, next, next_wait));
        let term = of.next()?;
        // The series may feed on this very split: it must not be kept by who waits for its reader.
        drop(of);
        let [ahead, behind] = taps;
        let _ = ahead.maker.answer(ask, term);
        drop(ahead);
        if !both {
            wait.recv()?;
        }
        match behind.maker.give(|| Ok(term)) {
            Err(Gone) if behind.principal => return Err(Gone),
            _ => {}
        }
        release.send(())?;
        Ok(())
    }

    // Sources.

    pub fn repeat(&self, coefficient: Rat) -> Series<W> {
        self.make(move |_, out| {
            loop {
                out.put(coefficient)?;
            }
        })
    }

    pub fn polynomial(&self, coefficients: impl Into<Vec<Rat>>) -> Series<W> {
        let coefficients = coefficients.into();
        self.make(move |_, out| {
            for coefficient in coefficients {
                out.put(coefficient)?;
            }
            out.give(|| Ok(None)).map(drop)
        })
    }

    /// (1 + x)^c.
    pub fn binomial(&self, c: Rat) -> Series<W> {
        self.make(move |_, out| {
            let (mut c, mut term, mut n) = (c, ONE, 1);
            while c != ZERO {
                out.put(term)?;
                term = term * c * rat(1, n);
                c = c + -ONE;
                n += 1;
            }
            out.put(term)?;
            out.give(|| Ok(None)).map(drop)
        })
    }

    // Arithmetic.

    pub fn add(&self, u: Series<W>, v: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            loop {
                let mut terms = [None, None];
                out.give(|| {
                    terms = next_of_both([&u, &v])?;
                    Ok(match terms {
                        [Some(a), Some(b)] => Some(a + b),
                        [a, b] => a.or(b),
                    })
                })?;
                match terms {
                    [Some(_), Some(_)] => {}
                    [None, Some(_)] => return out.copy(&v),
                    [Some(_), None] => return out.copy(&u),
                    [None, None] => return Ok(()),
                }
            }
        })
    }

    pub fn scale(&self, c: Rat, u: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            while out.give(|| Ok(u.next()?.map(|a| c * a)))?.is_some() {}
            Ok(())
        })
    }

    pub fn subtract(&self, u: Series<W>, v: Series<W>) -> Series<W> {
        self.add(u, self.scale(-ONE, v))
    }

    /// c + x u.
    pub fn shift(&self, c: Rat, u: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            out.put(c)?;
            out.copy(&u)
        })
    }

    /// (u - u(0)) / x.
    pub fn tail(&self, u: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            out.give(|| {
                u.next()?;
                u.next()
            })?;
            out.copy(&u)
        })
    }

    /// With u = a + x U and v = b + x V: u v = a b + x (a V + b U) + x^2 U V.
    pub fn multiply(&self, u: Series<W>, v: Series<W>) -> Series<W> {
        self.make(move |works, out| {
            let mut terms = [None, None];
            out.give(|| {
                terms = next_of_both([&u, &v])?;
                Ok(terms[0].zip(terms[1]).map(|(a, b)| a * b))
            })?;
            let [Some(a), Some(b)] = terms else { return Ok(()) };
            let ([u0, u1], [v0, v1]) = (works.split(u), works.split(v));
            let middle = works.add(works.scale(a, v0), works.scale(b, u0));
            if out.give(|| middle.next())?.is_none() {
                return Ok(());
            }
            out.copy(&works.add(middle, works.multiply(u1, v1)))
        })
    }

    pub fn differentiate(&self, u: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            let mut n = 0;
            while out
                .give(|| {
                    if n == 0 {
                        u.next()?;
                    }
                    n += 1;
                    Ok(u.next()?.map(|a| int(n) * a))
                })?
                .is_some()
            {}
            Ok(())
        })
    }

    /// With c as its value at 0, which is known without asking for u.
    pub fn integrate(&self, c: Rat, u: Series<W>) -> Series<W> {
        self.make(move |_, out| {
            out.put(c)?;
            for n in 1.. {
                if out.give(|| Ok(u.next()?.map(|a| a * rat(1, n))))?.is_none() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// With u = a + x U and 1/u = z + x Z: Z = -z U (z + x Z).
    pub fn reciprocal(&self, u: Series<W>) -> Series<W> {
        self.make(move |works, out| {
            let mut z = ZERO;
            out.give(|| {
                z = u.next()?.unwrap().inverse();
                Ok(Some(z))
            })?;
            out.copy(&works.fix(|works, rest| works.multiply(works.scale(-z, u), works.shift(z, rest))))
        })
    }

    /// Of a series without a constant term: z' = z u', z(0) = 1.
    pub fn exponential(&self, u: Series<W>) -> Series<W> {
        self.fix(|works, z| works.integrate(ONE, works.multiply(z, works.differentiate(u))))
    }

    /// u(v(x)), where v has no constant term: with u = a + x U and v = x V, u(v) = a + x V U(v).
    pub fn substitute(&self, u: Series<W>, v: Series<W>) -> Series<W> {
        self.make(move |works, out| {
            let [v, again] = works.split(v);
            if out.give(|| u.next())?.is_none() {
                return Ok(());
            }
            match v.next()? {
                None => out.give(|| Ok(None)).map(drop),
                Some(_) => out.copy(&works.multiply(v, works.substitute(u, again))),
            }
        })
    }

    /// u(c x^n).
    pub fn substitute_monomial(&self, u: Series<W>, c: Rat, n: usize) -> Series<W> {
        self.make(move |_, out| {
            let mut power = ONE;
            loop {
                if out.give(|| Ok(u.next()?.map(|a| a * power)))?.is_none() {
                    return Ok(());
                }
                power = power * c;
                for _ in 1..n {
                    out.put(ZERO)?;
                }
            }
        })
    }

    /// The series r without a constant term for which u(r(x)) = x, where u = x U: r = x / U(r).
    pub fn revert(&self, u: Series<W>) -> Series<W> {
        let rest = self.tail(u);
        self.fix(|works, r| works.shift(ZERO, works.reciprocal(works.substitute(rest, r))))
    }

    // Some series.

    /// 1 / (1 - x).
    pub fn ones(&self) -> Series<W> {
        self.repeat(ONE)
    }

    pub fn x(&self) -> Series<W> {
        self.polynomial([ZERO, ONE])
    }

    pub fn log_of_1_plus_x(&self) -> Series<W> {
        self.integrate(ZERO, self.substitute_monomial(self.ones(), -ONE, 1))
    }

    pub fn arc_tangent(&self) -> Series<W> {
        self.integrate(ZERO, self.substitute_monomial(self.ones(), -ONE, 2))
    }

    /// t' = 1 + t^2, t(0) = 0.
    pub fn tangent(&self) -> Series<W> {
        self.fix(|works, t| {
            let [t, again] = works.split(t);
            works.integrate(ZERO, works.add(works.polynomial([ONE]), works.multiply(t, again)))
        })
    }

    /// c'' = -c, c(0) = 1, c'(0) = 0.
    pub fn cosine(&self) -> Series<W> {
        self.fix(|works, c| works.integrate(ONE, works.integrate(ZERO, works.scale(-ONE, c))))
    }

    pub fn sine(&self) -> Series<W> {
        self.fix(|works, s| works.integrate(ZERO, works.integrate(ONE, works.scale(-ONE, s))))
    }
}
