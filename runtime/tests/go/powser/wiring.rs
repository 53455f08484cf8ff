//! How coefficients travel: demands go to whoever makes a series, and terms come back.

use std::any::Any;

use greenloom::channel::{Receiver, RecvError, Select, SendError, Sender, bounded};

use super::rational::Rat;

/// A partner has ended without a word; so does who notices.
#[derive(Debug)]
pub struct Gone;

impl From<RecvError> for Gone {
    fn from(_: RecvError) -> Self {
        Self
    }
}

impl<T> From<SendError<T>> for Gone {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

/// A coefficient, or none after the last one of a polynomial.
pub type Term = Option<Rat>;

/// The two ends of a channel for answers, if a series has one.
pub type Answers<I> = (Option<Sender<I>>, Option<Receiver<I>>);

/// A way to build a series' channels.
pub trait Wiring: Sized + Send + Sync + 'static {
    /// What a demand brings.
    type Ask: Send + 'static;
    /// What a coefficient travels as.
    type Item: Send + 'static;

    fn pack(term: Term) -> Self::Item;
    fn unpack(item: Self::Item) -> Term;

    /// None, if demands bring what their answers need.
    fn answers() -> Answers<Self::Item>;
    /// A demand, and where its answer will arrive.
    fn ask(answers: &Option<Receiver<Self::Item>>) -> (Self::Ask, Receiver<Self::Item>);
    /// Where the answer to a demand goes.
    fn to(ask: Self::Ask, answers: &Option<Sender<Self::Item>>) -> Sender<Self::Item>;
}

/// Two channels to each series: demands go up, coefficients come down.
pub struct Pairs;

impl Wiring for Pairs {
    type Ask = ();
    type Item = Term;

    fn pack(term: Term) -> Term {
        term
    }

    fn unpack(item: Term) -> Term {
        item
    }

    fn answers() -> Answers<Term> {
        let (s, r) = bounded(0);
        (Some(s), Some(r))
    }

    fn ask(answers: &Option<Receiver<Term>>) -> ((), Receiver<Term>) {
        ((), answers.clone().unwrap())
    }

    fn to((): (), answers: &Option<Sender<Term>>) -> Sender<Term> {
        answers.clone().unwrap()
    }
}

/// One channel to each series: every demand brings a channel for its answer, which may be of any type.
pub struct Replies;

impl Wiring for Replies {
    type Ask = Sender<Box<dyn Any + Send>>;
    type Item = Box<dyn Any + Send>;

    fn pack(term: Term) -> Self::Item {
        match term {
            Some(coefficient) => Box::new(coefficient),
            None => Box::new("finis"),
        }
    }

    fn unpack(item: Self::Item) -> Term {
        item.downcast::<Rat>().map(|coefficient| *coefficient).ok()
    }

    fn answers() -> Answers<Self::Item> {
        (None, None)
    }

    fn ask(_: &Option<Receiver<Self::Item>>) -> (Self::Ask, Receiver<Self::Item>) {
        bounded(0)
    }

    fn to(ask: Self::Ask, _: &Option<Sender<Self::Item>>) -> Sender<Self::Item> {
        ask
    }
}

/// A series, for who wants its coefficients.
pub struct Series<W: Wiring> {
    pub asks: Sender<W::Ask>,
    answers: Option<Receiver<W::Item>>,
}

/// A series, for who makes it.
pub struct Maker<W: Wiring> {
    pub asked: Receiver<W::Ask>,
    answers: Option<Sender<W::Item>>,
}

pub fn series<W: Wiring>() -> (Maker<W>, Series<W>) {
    let (asks, asked) = bounded(0);
    let (to, from) = W::answers();
    (Maker { asked, answers: to }, Series { asks, answers: from })
}

impl<W: Wiring> Series<W> {
    pub fn next(&self) -> Result<Term, Gone> {
        let (ask, answer) = W::ask(&self.answers);
        self.asks.send(ask)?;
        Ok(W::unpack(answer.recv()?))
    }

    /// Another handle, to the same coefficients: each goes to one of them.
    pub fn again(&self) -> Self {
        Self { asks: self.asks.clone(), answers: self.answers.clone() }
    }
}

impl<W: Wiring> Maker<W> {
    /// Waits for the next demand, and only then makes the coefficient.
    pub fn give(&self, make: impl FnOnce() -> Result<Term, Gone>) -> Result<Term, Gone> {
        let ask = self.asked.recv()?;
        let term = make()?;
        self.answer(ask, term)?;
        Ok(term)
    }

    pub fn answer(&self, ask: W::Ask, term: Term) -> Result<(), Gone> {
        Ok(W::to(ask, &self.answers).send(W::pack(term))?)
    }

    pub fn put(&self, coefficient: Rat) -> Result<(), Gone> {
        self.give(|| Ok(Some(coefficient))).map(drop)
    }

    /// Passes the rest of a series on.
    pub fn copy(&self, from: &Series<W>) -> Result<(), Gone> {
        while self.give(|| from.next())?.is_some() {}
        Ok(())
    }

    pub fn again(&self) -> Self {
        Self { asked: self.asked.clone(), answers: self.answers.clone() }
    }
}

/// One term of each of two series, which are asked in whatever order they listen and answer.
pub fn next_of_both<W: Wiring>(both: [&Series<W>; 2]) -> Result<[Term; 2], Gone> {
    let mut asks = [None, None];
    let mut answers = [None, None];
    let mut terms = [None, None];
    for i in 0..2 {
        let (ask, answer) = W::ask(&both[i].answers);
        asks[i] = Some(ask);
        answers[i] = Some(answer);
    }
    for _ in 0..4 {
        let mut select = Select::new();
        // For each operation: which of the two, and whether it is the demand.
        let mut operations = Vec::new();
        for i in 0..2 {
            if asks[i].is_some() {
                select.send(&both[i].asks);
                operations.push((i, true));
            } else if let Some(answer) = &answers[i] {
                select.recv(answer);
                operations.push((i, false));
            }
        }
        let operation = select.select();
        match operations[operation.index()] {
            (i, true) => operation.send(&both[i].asks, asks[i].take().unwrap())?,
            (i, false) => {
                terms[i] = W::unpack(operation.recv(answers[i].as_ref().unwrap())?);
                drop(select);
                answers[i] = None;
            }
        }
    }
    Ok(terms)
}
