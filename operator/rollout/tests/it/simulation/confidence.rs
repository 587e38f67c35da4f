//! How sure a figure is: exact bounds of a share (Clopper and Pearson 1934), two-sided with 99 %, and the
//! place of a median.

/// What either side is wrong with at most.
const ERROR: f64 = 0.005;

/// The lower and the upper bound of a share that was seen `hits` times of `all`.
pub(crate) fn bounds(hits: u64, all: u64) -> (f64, f64) {
    let binomial = Binomial::of(all);
    // The more likely a hit, the more likely so many and the less likely so few.
    let so_many =
        |share| 1.0 - hits.checked_sub(1).map_or(0.0, |less| binomial.at_most(less, share));
    let so_few = |share| binomial.at_most(hits, share);
    (last(|share| so_many(share) <= ERROR), last(|share| so_few(share) > ERROR))
}

/// The place in a sorted list of so many below which the median surely is not; none in a list of a few.
pub(crate) fn least_median(all: usize) -> Option<usize> {
    let binomial = Binomial::of(all as u64);
    let below = |place: &usize| binomial.at_most(*place as u64, 0.5) <= ERROR;
    (0..all).take_while(below).last()
}

/// The last share for which something holds that holds from 0 up to some share.
fn last(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    high
}

/// So many coins.
struct Binomial {
    all: u64,
    /// Logarithms of the factorials.
    factorials: Vec<f64>,
}

impl Binomial {
    fn of(all: u64) -> Self {
        let logs = (1..=all).scan(0.0, |sum: &mut f64, number| {
            *sum += (number as f64).ln();
            Some(*sum)
        });
        Self { all, factorials: std::iter::once(0.0).chain(logs).collect() }
    }

    /// The probability of at most so many hits.
    fn at_most(&self, hits: u64, share: f64) -> f64 {
        if share <= 0.0 || hits >= self.all {
            return 1.0;
        }
        let log = |number: u64| self.factorials[number as usize];
        let ways = |hits: u64| log(self.all) - log(hits) - log(self.all - hits);
        let (hit, miss) = (share.ln(), (-share).ln_1p());
        let of =
            |hits: u64| (ways(hits) + hits as f64 * hit + (self.all - hits) as f64 * miss).exp();
        (0..=hits).map(of).sum::<f64>().min(1.0)
    }
}

#[test]
fn bounds_are_those_of_the_tables() {
    let rounded = |hits, all| {
        let (low, high) = bounds(hits, all);
        [low, high].map(|share| (share * 10_000.0).round() / 10_000.0)
    };
    assert_eq!(rounded(0, 100), [0.0, 0.0516]);
    assert_eq!(rounded(5, 100), [0.0109, 0.1351]);
    assert_eq!(rounded(100, 100), [0.9484, 1.0]);
    assert_eq!(rounded(200, 20_000), [0.0083, 0.012]);
}

#[test]
fn a_median_of_few_may_be_anywhere() {
    assert_eq!([1, 7, 8, 100].map(least_median), [None, None, Some(0), Some(36)]);
}
