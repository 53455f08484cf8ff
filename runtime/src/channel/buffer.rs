//! The messages of a channel between send and receive. Everything here is used under the channel's
//! lock.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A first-in, first-out queue.
pub(super) struct Buffer<T> {
    len: usize,
    places: Places<T>,
}

enum Places<T> {
    /// For a channel with a capacity: one allocation, made with the channel.
    Ring(Ring<T>),
    /// For a channel without: blocks, linked as they are needed.
    Blocks(Blocks<T>),
}

impl<T> Buffer<T> {
    /// Makes room for `capacity` messages, or without limit for `None`.
    ///
    /// # Panics
    /// If there is no memory for that many.
    #[track_caller]
    pub(super) fn new(capacity: Option<usize>) -> Self {
        let places = match capacity {
            Some(places) => Places::Ring(Ring::new(places)),
            None => Places::Blocks(Blocks::new()),
        };
        Self { len: 0, places }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether the next push needs a [block](Spare) first.
    #[inline(always)]
    pub(super) fn needs_block(&self) -> bool {
        match &self.places {
            Places::Ring(_) => false,
            Places::Blocks(blocks) => blocks.needs_block(),
        }
    }

    /// Takes a block for later pushes.
    pub(super) fn supply(&mut self, spare: Spare<T>) {
        if let Places::Blocks(blocks) = &mut self.places {
            blocks.supply(spare);
        }
    }

    /// Adds the message at `from`.
    ///
    /// # Safety
    /// There is room: a place in the ring, or no need for a block. The message is moved out of
    /// `from`.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, from: *const T) {
        // SAFETY: there is room, as `# Safety` demands.
        unsafe {
            match &mut self.places {
                Places::Ring(ring) => ring.push(from),
                Places::Blocks(blocks) => blocks.push(from),
            }
        }
        self.len += 1;
    }

    /// Moves the oldest message to `to`.
    ///
    /// # Safety
    /// There is a message, and `to` is room for it.
    #[inline(always)]
    pub(super) unsafe fn pop(&mut self, to: *mut T) {
        self.len -= 1;
        // SAFETY: there is a message, and room for it at `to`, as `# Safety` demands.
        unsafe {
            match &mut self.places {
                Places::Ring(ring) => ring.pop(to),
                Places::Blocks(blocks) => blocks.pop(to, self.len == 0),
            }
        }
    }
}

impl<T> Drop for Buffer<T> {
    /// If a message's destructor panics, the messages after it are leaked, as in crossbeam's
    /// channels: a second panic would abort.
    fn drop(&mut self) {
        while self.len() > 0 {
            let mut message = MaybeUninit::uninit();
            // SAFETY: there is a message, and it is moved out and dropped once.
            unsafe {
                self.pop(message.as_mut_ptr());
                message.assume_init_drop();
            }
        }
    }
}

struct Ring<T> {
    places: Box<[MaybeUninit<T>]>,
    /// The place of the oldest message.
    head: usize,
    /// The place for the next message.
    tail: usize,
}

impl<T> Ring<T> {
    #[track_caller]
    fn new(places: usize) -> Self {
        let mut room: Vec<MaybeUninit<T>> = Vec::new();
        if room.try_reserve_exact(places).is_err() {
            panic!("bounded channel capacity is too large: no memory for {places} messages of {} bytes", size_of::<T>());
        }
        // SAFETY: there is room for that many, and they need no initialisation.
        unsafe { room.set_len(places) };
        Self { places: room.into_boxed_slice(), head: 0, tail: 0 }
    }

    /// The place after this one, in the ring.
    #[inline(always)]
    fn after(&self, place: usize) -> usize {
        if place + 1 == self.places.len() { 0 } else { place + 1 }
    }

    #[inline(always)]
    unsafe fn push(&mut self, from: *const T) {
        // SAFETY: the caller knows of a free place, and `tail` is the first one. A place is as
        // large as a message.
        unsafe { self.places.get_unchecked_mut(self.tail).as_mut_ptr().copy_from_nonoverlapping(from, 1) };
        self.tail = self.after(self.tail);
    }

    #[inline(always)]
    unsafe fn pop(&mut self, to: *mut T) {
        // SAFETY: the caller knows of a message, and the oldest one is at `head`.
        unsafe { to.copy_from_nonoverlapping(self.places.get_unchecked(self.head).as_ptr(), 1) };
        self.head = self.after(self.head);
    }
}

/// The number of messages in a block.
const BLOCK: usize = 31;

struct Block<T> {
    next: Option<NonNull<Block<T>>>,
    places: [MaybeUninit<T>; BLOCK],
}

/// A block that is not in use. It is made outside the channel's lock, so that nobody waits for the
/// allocator.
pub(super) struct Spare<T>(Box<MaybeUninit<Block<T>>>);

impl<T> Spare<T> {
    pub(super) fn new() -> Self {
        Self(Box::new_uninit())
    }

    fn into_block(mut self) -> NonNull<Block<T>> {
        // SAFETY: the room is the block's, and its places need no initialisation.
        unsafe {
            (&raw mut (*self.0.as_mut_ptr()).next).write(None);
            NonNull::new_unchecked(Box::into_raw(self.0).cast())
        }
    }

    /// # Safety
    /// The block came from [`into_block`](Self::into_block), and nobody uses it any more.
    unsafe fn from_block(block: NonNull<Block<T>>) -> Self {
        // SAFETY: the block is as `# Safety` demands.
        Self(unsafe { Box::from_raw(block.as_ptr().cast()) })
    }
}

struct Blocks<T> {
    /// The block of the oldest message, and its place there.
    head: Option<NonNull<Block<T>>>,
    first: usize,
    /// The newest block, and its first free place.
    tail: Option<NonNull<Block<T>>>,
    free: usize,
    /// The last block that ran empty. With it, a channel that is drained now and then does not
    /// allocate again.
    spare: Option<Spare<T>>,
}

impl<T> Blocks<T> {
    fn new() -> Self {
        Self { head: None, first: 0, tail: None, free: BLOCK, spare: None }
    }

    #[inline(always)]
    fn needs_block(&self) -> bool {
        self.free == BLOCK && self.spare.is_none()
    }

    fn supply(&mut self, spare: Spare<T>) {
        self.spare.get_or_insert(spare);
    }

    #[inline]
    unsafe fn push(&mut self, from: *const T) {
        if self.free == BLOCK {
            self.add_block();
        }
        if let Some(tail) = self.tail {
            // SAFETY: the tail is ours, and `free` is a place in it that holds no message.
            unsafe { (&raw mut (*tail.as_ptr()).places[self.free]).cast::<T>().copy_from_nonoverlapping(from, 1) };
        }
        self.free += 1;
    }

    fn add_block(&mut self) {
        let spare = self.spare.take().expect("the caller has supplied one");
        let block = spare.into_block();
        match self.tail.replace(block) {
            // SAFETY: the old tail is ours.
            Some(tail) => unsafe { (*tail.as_ptr()).next = Some(block) },
            None => {
                self.head = Some(block);
                self.first = 0;
            }
        }
        self.free = 0;
    }

    /// Moves the oldest message to `to`. It is the only one if `last` is set.
    #[inline]
    unsafe fn pop(&mut self, to: *mut T, last: bool) {
        let Some(head) = self.head else { unreachable!("the caller knows of a message") };
        // SAFETY: the caller knows of a message, and the oldest one is at `first` of the head.
        unsafe { to.copy_from_nonoverlapping((&raw const (*head.as_ptr()).places[self.first]).cast::<T>(), 1) };
        self.first += 1;
        if self.first == BLOCK {
            self.drop_head(head);
        } else if last {
            // Empty in the middle of the last block: start that block again.
            self.first = 0;
            self.free = 0;
        }
    }

    /// Removes the head, which has run empty.
    fn drop_head(&mut self, head: NonNull<Block<T>>) {
        // SAFETY: the head is ours, and its messages have been moved out.
        unsafe {
            self.head = (*head.as_ptr()).next;
            self.spare = Some(Spare::from_block(head));
        }
        self.first = 0;
        if self.head.is_none() {
            self.tail = None;
            self.free = BLOCK;
        }
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        // The messages are gone (see `Buffer`). A block may be left.
        while let Some(head) = self.head {
            self.drop_head(head);
        }
    }
}

// SAFETY: a buffer owns its messages, and nothing in it is tied to a thread.
unsafe impl<T: Send> Send for Blocks<T> {}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn push<T>(buffer: &mut Buffer<T>, message: T) {
        if buffer.needs_block() {
            buffer.supply(Spare::new());
        }
        let message = MaybeUninit::new(message);
        // SAFETY: there is room.
        unsafe { buffer.push(message.as_ptr()) };
    }

    fn pop<T>(buffer: &mut Buffer<T>) -> T {
        let mut message = MaybeUninit::uninit();
        assert!(buffer.len() > 0);
        // SAFETY: there is a message.
        unsafe {
            buffer.pop(message.as_mut_ptr());
            message.assume_init()
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in_and_the_rest_is_dropped() {
        for capacity in [Some(200), None] {
            let count = Rc::new(());
            let mut buffer = Buffer::new(capacity);
            let (mut put, mut taken) = (0, 0);
            for round in 0..1_000_usize {
                for _ in 0..(round * 7) % 41 {
                    if buffer.len() < 200 {
                        push(&mut buffer, (put, count.clone()));
                        put += 1;
                    }
                }
                for _ in 0..(round * 5) % 43 {
                    if buffer.len() > 0 {
                        assert_eq!(pop(&mut buffer).0, taken);
                        taken += 1;
                    }
                }
                assert_eq!(buffer.len(), put - taken);
                assert_eq!(Rc::strong_count(&count), 1 + put - taken);
            }
            assert!(put > 10_000 && buffer.len() > 0);
            drop(buffer);
            assert_eq!(Rc::strong_count(&count), 1);
        }
    }

    #[test]
    fn a_channel_that_is_drained_now_and_then_needs_one_block() {
        let mut buffer = Buffer::new(None);
        let mut blocks = 0;
        for round in 0..1_000 {
            for message in 0..=round % BLOCK {
                if buffer.needs_block() {
                    buffer.supply(Spare::new());
                    blocks += 1;
                }
                // SAFETY: there is room.
                unsafe { buffer.push(&message) };
            }
            while buffer.len() > 0 {
                pop(&mut buffer);
            }
        }
        assert_eq!(blocks, 1);
    }
}
