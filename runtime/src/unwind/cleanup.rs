//! Whether a task is in the middle of an unwinding, as its stack tells.
//!
//! std counts the unwindings of a thread. If a destructor suspends its task in the middle of one,
//! that count holds for all tasks of the thread. It does not tell whether the running task unwinds
//! itself. That matters: an unwinding that is raised in a destructor that an unwinding runs, and
//! that leaves it, ends the process.
//!
//! So the stack is examined as an unwinding would examine it. A frame that an unwinding passes runs
//! its *cleanup*: the destructors of what it owns. The calls in a cleanup have their own entry in
//! the frame's table of call sites. The entry filters an unwinding that reaches them: no kind of it
//! may go on, and the process ends. The body of an `extern "C"` function has such an entry too,
//! since no unwinding may leave it. A task with such a frame on its stack may not be unwound; any
//! other may.
//!
//! The table is the language-specific data area of the [Itanium C++
//! ABI](https://itanium-cxx-abi.github.io/cxx-abi/), in the form that LLVM and GCC give it. The
//! system's unwinder walks the stack, which takes tens of microseconds. If something cannot be
//! read, the stack counts as unwinding.
//!
//! A model knows panics only as failures. There, a task unwinds as long as it has a payload
//! (`unwind::payload`).

use std::ffi::{c_int, c_void};

use crate::raw::record::Record;

/// A frame, as the unwinder presents it.
#[repr(C)]
struct Frame {
    _private: [u8; 0],
}

// The unwinder that std uses and links.
unsafe extern "C" {
    fn _Unwind_Backtrace(trace: extern "C" fn(*mut Frame, *mut c_void) -> c_int, argument: *mut c_void) -> c_int;
    fn _Unwind_GetCFA(frame: *mut Frame) -> usize;
    fn _Unwind_GetIPInfo(frame: *mut Frame, before: *mut c_int) -> usize;
    fn _Unwind_GetRegionStart(frame: *mut Frame) -> usize;
    fn _Unwind_GetLanguageSpecificData(frame: *mut Frame) -> *const u8;
}

/// What a step of the walk returns: `_URC_NO_REASON`, or anything else.
const GO_ON: c_int = 0;
const STOP: c_int = 5;

/// Whether the running task, on this stack, must not be unwound from here.
#[cold]
#[inline(never)]
pub(crate) fn is_in_cleanup(record: &Record) -> bool {
    let mut walk = Walk { bottom: record.slot().bottom, base: record.base(), at_home: false, in_cleanup: true };
    // SAFETY: the walk lives until the call returns, and nobody else has it.
    unsafe { _Unwind_Backtrace(step, (&raw mut walk).cast()) };
    walk.in_cleanup
}

struct Walk {
    /// The range of the stack in which the task's frames lie.
    bottom: usize,
    base: usize,
    /// The walk has reached the task's stack: at once, or from the stack of another crate's
    /// coroutine.
    at_home: bool,
    /// True unless the walk reaches the base and finds otherwise.
    in_cleanup: bool,
}

extern "C" fn step(frame: *mut Frame, walk: *mut c_void) -> c_int {
    // SAFETY: `is_in_cleanup` passed a valid `Walk`, which nobody else uses.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    // SAFETY: the unwinder's frame is valid for as long as this call lasts. Despite the function's
    // name, this is where the frame itself ends.
    let end = unsafe { _Unwind_GetCFA(frame) };
    let at_home = (walk.bottom..walk.base).contains(&end);
    if walk.at_home && !at_home {
        walk.in_cleanup = false;
        return STOP;
    }
    walk.at_home |= at_home;
    // SAFETY: the frame is valid for as long as this call lasts.
    let call = unsafe { Call::of(frame) };
    if call == Call::Ordinary { GO_ON } else { STOP }
}

/// What an unwinding finds at a frame that it reaches from the frame's current call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// It may pass, or is caught.
    Ordinary,
    /// It must not go on.
    Filtered,
    /// Not known.
    Unreadable,
}

/// The encodings of numbers in a table (DWARF's pointer encodings), as far as compilers use them
/// there.
const ULEB128: u8 = 0x01;
const FOUR_BYTES: u8 = 0x03;
const OMITTED: u8 = 0xff;

impl Call {
    /// # Safety
    /// The frame belongs to a walk that is under way.
    unsafe fn of(frame: *mut Frame) -> Self {
        let mut is_before = 0;
        // SAFETY: the frame belongs to a walk that is under way, as `# Safety` demands.
        let (table, start, address) = unsafe {
            (_Unwind_GetLanguageSpecificData(frame), _Unwind_GetRegionStart(frame), _Unwind_GetIPInfo(frame, &raw mut is_before))
        };
        if table.is_null() {
            return Self::Ordinary;
        }
        // A return address may belong to what follows the call.
        let address = if is_before == 0 { address - 1 } else { address };
        // SAFETY: the table belongs to the frame's function, which begins at `start` and contains
        // the address.
        unsafe { Self::find(Reader(table), address - start) }.unwrap_or(Self::Unreadable)
    }

    /// Looks up a call; `None` if the table does not have the usual form.
    ///
    /// # Safety
    /// The reader is at the beginning of a function's table. The place, counted from the function's
    /// beginning, is in that function.
    unsafe fn find(mut table: Reader, place: usize) -> Option<Self> {
        // SAFETY: the table states its own length and offsets, and the reader is at its beginning,
        // as `# Safety` demands.
        unsafe {
            // Landing pads are counted from the function's beginning. In another form they are
            // elsewhere, and so is the rest.
            if table.byte() != OMITTED {
                return None;
            }
            if table.byte() != OMITTED {
                let _types = table.unsigned();
            }
            let encoding = table.byte();
            let length = table.unsigned();
            let actions = table.0.add(length);
            while table.0 < actions {
                let (start, length) = (table.number(encoding)?, table.number(encoding)?);
                let (landing_pad, action) = (table.number(encoding)?, table.unsigned());
                if place < start {
                    break;
                }
                if place - start < length {
                    let filtered = landing_pad != 0 && action != 0 && Self::has_filter(Reader(actions.add(action - 1)));
                    return Some(if filtered { Self::Filtered } else { Self::Ordinary });
                }
            }
            // No unwinding comes from a call without an entry.
            Some(Self::Ordinary)
        }
    }

    /// Whether one of the actions at a landing pad is a filter. Filters have types that are counted
    /// from minus one down.
    ///
    /// # Safety
    /// The reader is at the first action.
    unsafe fn has_filter(mut action: Reader) -> bool {
        loop {
            // SAFETY: each action says where the next one is, until there is none.
            unsafe {
                if action.signed() < 0 {
                    return true;
                }
                let here = action.0;
                match action.signed() {
                    0 => return false,
                    next => action = Reader(here.offset(next)),
                }
            }
        }
    }
}

/// Reads a table.
struct Reader(*const u8);

impl Reader {
    /// # Safety
    /// There is a byte to read. The methods below require the same for each number that they read.
    unsafe fn byte(&mut self) -> u8 {
        // SAFETY: there is a byte to read, as `# Safety` demands.
        unsafe {
            let byte = *self.0;
            self.0 = self.0.add(1);
            byte
        }
    }

    /// A number in LEB128, and how many bits it takes.
    unsafe fn leb128(&mut self) -> (usize, u32) {
        let (mut number, mut bits) = (0, 0);
        loop {
            // SAFETY: the number's bytes can be read, as `byte` demands.
            let byte = unsafe { self.byte() };
            number |= usize::from(byte & 0x7f).checked_shl(bits).unwrap_or(0);
            bits += 7;
            if byte & 0x80 == 0 {
                return (number, bits);
            }
        }
    }

    unsafe fn unsigned(&mut self) -> usize {
        // SAFETY: the number's bytes can be read, as `byte` demands.
        unsafe { self.leb128().0 }
    }

    unsafe fn signed(&mut self) -> isize {
        // SAFETY: the number's bytes can be read, as `byte` demands.
        let (number, bits) = unsafe { self.leb128() };
        let unused = usize::BITS.saturating_sub(bits);
        (number << unused).cast_signed() >> unused
    }

    /// A number in this encoding; `None` if the encoding is unusual.
    unsafe fn number(&mut self, encoding: u8) -> Option<usize> {
        match encoding {
            // SAFETY: the number's bytes can be read, as `byte` demands.
            ULEB128 => Some(unsafe { self.unsigned() }),
            FOUR_BYTES => {
                // SAFETY: the number's four bytes can be read, as `byte` demands.
                let bytes = [(); 4].map(|()| unsafe { self.byte() });
                Some(u32::from_ne_bytes(bytes) as usize)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::is_in_cleanup;
    use crate::channel::bounded;
    use crate::prim::Lock;
    use crate::prim::untracked::Arc;
    use crate::scheduler::local;
    use crate::{Runtime, park, spawn};

    /// The results, in order.
    type Seen = Arc<Lock<Vec<bool>>>;

    /// Looks, from a call that an unwinding may come from.
    fn look(seen: &Seen) {
        let (_, record) = local::running().unwrap();
        seen.lock().push(is_in_cleanup(record));
        if black_box(false) {
            resume_unwind(Box::new(()));
        }
    }

    struct Looks(Seen);

    impl Drop for Looks {
        fn drop(&mut self) {
            look(&self.0);
        }
    }

    /// Has a destructor of its own, which would catch an unwinding.
    struct LooksAndCatches(Seen);

    impl Drop for LooksAndCatches {
        fn drop(&mut self) {
            let _ = catch_unwind(AssertUnwindSafe(|| look(&self.0)));
        }
    }

    #[track_caller]
    fn assert_seen(expected: &[bool], f: impl FnOnce(&Seen) + Send + 'static) {
        let seen = Seen::new(Lock::new(Vec::new()));
        Runtime::builder().processors(1).build().unwrap().run({
            let seen = seen.clone();
            move || {
                f(&seen);
                // Whatever was done, it is over now.
                look(&seen);
            }
        });
        let seen = seen.lock();
        assert_eq!(seen.split_last(), Some((&false, expected)));
    }

    /// Unwinds past a frame that owns `owned`.
    fn unwind_past<T>(owned: T) {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _owned = owned;
            if black_box(true) {
                resume_unwind(Box::new(()));
            }
        }));
        assert!(unwound.is_err());
    }

    #[test]
    fn ordinary_code_is_in_no_cleanup() {
        assert_seen(&[false], look);
        assert_seen(&[false], |seen| catch_unwind(AssertUnwindSafe(|| look(seen))).unwrap());
        assert_seen(&[false; 3], |seen| drop([(); 3].map(|()| Looks(seen.clone()))));
        assert_seen(&[false], |seen| {
            let owned = Looks(seen.clone());
            assert!(catch_unwind(|| panic!("before")).is_err());
            drop(owned);
        });
    }

    #[test]
    fn what_an_unwinding_drops_is_in_its_cleanup() {
        assert_seen(&[true], |seen| unwind_past(Looks(seen.clone())));
        assert_seen(&[true], |seen| unwind_past(LooksAndCatches(seen.clone())));
        assert_seen(&[true; 3], |seen| unwind_past(vec![Looks(seen.clone()), Looks(seen.clone()), Looks(seen.clone())]));
        assert_seen(&[true; 2], |seen| unwind_past((Box::new(Looks(seen.clone())), LooksAndCatches(seen.clone()))));
        assert_seen(&[true], |seen| {
            let owned: Box<dyn FnOnce() + Send> = {
                let looks = Looks(seen.clone());
                Box::new(move || drop(looks))
            };
            unwind_past(owned);
        });
    }

    #[test]
    fn what_an_unwinding_drops_last_is_too() {
        struct Unwinds(Seen);
        impl Drop for Unwinds {
            fn drop(&mut self) {
                unwind_past(Looks(self.0.clone()));
                look(&self.0);
            }
        }
        assert_seen(&[true; 2], |seen| unwind_past(Unwinds(seen.clone())));
        assert_seen(&[true, false], |seen| drop(Unwinds(seen.clone())));
    }

    #[test]
    fn no_unwinding_may_leave_what_is_called_as_c() {
        extern "C" fn callback(seen: &Seen) {
            look(seen);
        }
        assert_seen(&[true], |seen| callback(seen));
    }

    #[test]
    fn a_task_that_unwinds_by_cancellation_is_in_its_cleanup() {
        assert_seen(&[true], |seen| {
            let (sender, receiver) = bounded(1);
            let looks = Looks(seen.clone());
            let task = spawn(move || {
                let _looks = looks;
                sender.send(()).unwrap();
                park();
            });
            receiver.recv().unwrap();
            task.cancel();
            assert!(task.join().unwrap_err().is_cancelled());
        });
    }
}
