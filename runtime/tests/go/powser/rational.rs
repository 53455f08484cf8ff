//! Rational numbers.

use std::fmt;
use std::ops::{Add, Mul, Neg};

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rat {
    pub num: i128,
    pub den: i128,
}

pub const ZERO: Rat = int(0);
pub const ONE: Rat = int(1);

pub const fn int(num: i128) -> Rat {
    Rat { num, den: 1 }
}

/// In lowest terms, the denominator positive.
pub fn rat(num: i128, den: i128) -> Rat {
    assert_ne!(den, 0, "zero divide");
    let (mut a, mut b) = (num.abs(), den.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let divisor = a * den.signum();
    Rat { num: num / divisor, den: den / divisor }
}

impl Add for Rat {
    type Output = Rat;
    fn add(self, other: Rat) -> Rat {
        rat(self.num * other.den + other.num * self.den, self.den * other.den)
    }
}

impl Mul for Rat {
    type Output = Rat;
    fn mul(self, other: Rat) -> Rat {
        rat(self.num * other.num, self.den * other.den)
    }
}

impl Neg for Rat {
    type Output = Rat;
    fn neg(self) -> Rat {
        Rat { num: -self.num, den: self.den }
    }
}

impl Rat {
    pub fn inverse(self) -> Rat {
        rat(self.den, self.num)
    }
}

impl fmt::Debug for Rat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}
