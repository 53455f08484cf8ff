//! n queens: the board that every runtime's row searches.

/// Rows whose queens get a task each; below them a task searches in a plain loop.
const FORKED_ROWS: u32 = 6;

/// A board with a queen in each of its first rows, none of them attacking another. Bits are columns.
#[derive(Clone, Copy)]
pub struct Board {
    all: u32,
    columns: u32,
    left: u32,
    right: u32,
    row: u32,
}

impl Board {
    pub fn new(n: u64) -> Self {
        Self { all: (1 << n) - 1, columns: 0, left: 0, right: 0, row: 0 }
    }

    /// Whether a task places the next queen of this board in tasks of their own.
    pub fn forks(&self) -> bool {
        self.row < FORKED_ROWS
    }

    /// The boards with one more queen, in the next row.
    #[inline]
    pub fn next(self) -> impl Iterator<Item = Board> {
        let mut free = self.all & !(self.columns | self.left | self.right);
        std::iter::from_fn(move || {
            let column = free & free.wrapping_neg();
            free ^= column;
            (column != 0).then(|| Board {
                columns: self.columns | column,
                left: ((self.left | column) << 1) & self.all,
                right: (self.right | column) >> 1,
                row: self.row + 1,
                ..self
            })
        })
    }

    /// Solutions that this board leads to, without tasks.
    pub fn count(self) -> u64 {
        if self.columns == self.all {
            return 1;
        }
        self.next().map(Board::count).sum()
    }
}

/// Tasks of the row for a board of `n`.
pub fn tasks(n: u64) -> u64 {
    fn below(board: Board) -> u64 {
        if !board.forks() {
            return 0;
        }
        board.next().map(|next| 1 + below(next)).sum()
    }
    below(Board::new(n))
}
