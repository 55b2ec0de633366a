//! How the free choices of a simulation are made: drawn from a seed, or gone through one by one.

/// Makes choices.
pub trait Choose {
    /// One of `0..sides`; 0 when `sides` is 0 or 1.
    fn choose(&mut self, sides: u64) -> u64;

    /// True in one of so many cases.
    fn one_in(&mut self, cases: u64) -> bool {
        self.choose(cases) == 0
    }
}

/// A seeded generator (SplitMix64, Steele, Lea and Flood 2014): the same seed makes the same choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice(u64);

impl Dice {
    /// A generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A generator of its own, whose choices do not disturb those of this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }
}

impl Choose for Dice {
    fn choose(&mut self, sides: u64) -> u64 {
        if sides <= 1 { 0 } else { self.draw().checked_rem(sides).unwrap_or(0) }
    }
}

/// Goes through every combination of choices: run what chooses, call [`advance`](Odometer::advance), run it again, until
/// that says that all have been seen. What chooses must ask the same questions after the same answers.
#[derive(Clone, Debug, Default)]
pub struct Odometer {
    /// What was chosen, and of how many.
    digits: Vec<(u64, u64)>,
    asked: usize,
}

impl Odometer {
    /// At the first combination: every choice is 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes to the next combination; false when there is none.
    pub fn advance(&mut self) -> bool {
        self.digits.truncate(self.asked);
        self.asked = 0;
        while let Some((digit, sides)) = self.digits.pop() {
            let next = digit.saturating_add(1);
            if next < sides {
                self.digits.push((next, sides));
                return true;
            }
        }
        false
    }
}

impl Choose for Odometer {
    fn choose(&mut self, sides: u64) -> u64 {
        if sides <= 1 {
            return 0;
        }
        let place = self.asked;
        self.asked = self.asked.saturating_add(1);
        if let Some((digit, _)) = self.digits.get(place) {
            return *digit;
        }
        self.digits.push((0, sides));
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_odometer_sees_every_combination_once() {
        let mut odometer = Odometer::new();
        let mut seen = BTreeSet::new();
        loop {
            let first = odometer.choose(3);
            // The second question is asked only after some answers.
            let second = if first == 1 { 9 } else { odometer.choose(2) };
            assert!(seen.insert((first, second, odometer.choose(1))));
            if !odometer.advance() {
                break;
            }
        }
        let expected = [(0, 0, 0), (0, 1, 0), (1, 9, 0), (2, 0, 0), (2, 1, 0)];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_same_seed_makes_the_same_choices_and_another_makes_others() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..50).map(|_| dice.choose(6)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        assert_eq!(rolls(7).into_iter().collect::<BTreeSet<_>>().len(), 6);
    }
}
