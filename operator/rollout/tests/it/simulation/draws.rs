//! Seeded chance: the same seed draws the same world, on every machine.

/// SplitMix64: small, seeded, and good enough for drawing messages.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

/// A heavy tail up to sixty: one in eight is four and more, one in a hundred twenty.
#[derive(Clone, Debug)]
pub(crate) struct Tail([f64; 59]);

impl Tail {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|index| (index as f64 + 2.0).powf(-1.5)))
    }

    pub(crate) fn draw(&self, draws: &mut Draws) -> u16 {
        let share = draws.share();
        1 + self.0.iter().take_while(|most| share <= **most).count() as u16
    }
}

impl Draws {
    /// A stream of its own for every seed and name.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        let mut draws = Self(seed ^ name.wrapping_mul(0xd6e8_feb8_6659_fd93));
        draws.next();
        draws
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between 0, excluded, and 1, included.
    pub(crate) fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.share() <= share
    }

    /// Evenly from `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + (self.share() * (high - low) as f64) as u64 % (high - low).max(1)
    }

    /// The time until the next of things that happen at random.
    pub(crate) fn gap(&mut self, mean_ms: f64) -> u64 {
        (-self.share().ln() * mean_ms) as u64
    }
}
