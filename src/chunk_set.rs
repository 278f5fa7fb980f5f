//! A set of chunks as ordered ranges: union, difference, first *n*, and a compact form.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of chunk numbers, kept as disjoint ranges that do not touch. Memory follows the number of ranges.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChunkSet {
    /// Start of each range to its end.
    ranges: BTreeMap<u64, u64>,
    chunks: u64,
}

impl ChunkSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of all chunks of `range`.
    pub fn of(range: Range<u64>) -> Self {
        let mut set = Self::new();
        set.insert(range);
        set
    }

    /// Whether no chunk is in the set.
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// Number of chunks in the set.
    pub fn len(&self) -> u64 {
        self.chunks
    }

    /// Whether `chunk` is in the set.
    pub fn contains(&self, chunk: u64) -> bool {
        self.ranges.range(..=chunk).next_back().is_some_and(|(_, &end)| chunk < end)
    }

    /// The lowest chunk of the set.
    pub fn first(&self) -> Option<u64> {
        self.ranges.keys().next().copied()
    }

    /// The ranges of the set, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// Adds every chunk of `range`; those already there stay.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.ranges.range(..start).next_back()
            && before_end >= start
        {
            start = before;
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&next);
            self.chunks -= next_end - next;
            end = end.max(next_end);
        }
        self.ranges.insert(start, end);
        self.chunks += end - start;
    }

    /// Takes every chunk of `range` out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&before, &before_end)) = self.ranges.range(..range.start).next_back()
            && before_end > range.start
        {
            self.ranges.insert(before, range.start);
            self.chunks -= before_end - range.start;
            if before_end > range.end {
                self.ranges.insert(range.end, before_end);
                self.chunks += before_end - range.end;
            }
        }
        while let Some((&next, &next_end)) = self.ranges.range(range.clone()).next() {
            self.ranges.remove(&next);
            self.chunks -= next_end - next;
            if next_end > range.end {
                self.ranges.insert(range.end, next_end);
                self.chunks += next_end - range.end;
            }
        }
    }

    /// Adds every chunk of `other`.
    pub fn union(&mut self, other: &Self) {
        other.ranges().for_each(|range| self.insert(range));
    }

    /// Takes every chunk of `other` out.
    pub fn difference(&mut self, other: &Self) {
        other.ranges().for_each(|range| self.remove(range));
    }

    /// The part of the set that lies in `window`, as ordered ranges.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.ranges.range(..=window.start).next_back().map_or(window.start, |(&start, _)| start);
        let bounds = if from < window.end { from..window.end } else { 0..0 };
        self.ranges.range(bounds).filter_map(move |(&start, &end)| {
            let clipped = start.max(window.start)..end.min(window.end);
            (!clipped.is_empty()).then_some(clipped)
        })
    }

    /// The lowest `count` chunks of the set, as ordered ranges; fewer where the set is smaller.
    pub fn first_n(&self, count: u64) -> Vec<Range<u64>> {
        let mut left = count;
        let mut taken = Vec::new();
        for range in self.ranges() {
            if left == 0 {
                break;
            }
            let end = range.end.min(range.start.saturating_add(left));
            left -= end - range.start;
            taken.push(range.start..end);
        }
        taken
    }

    /// The compact form: for each range the gap since the one before it, and its length.
    pub fn to_gaps(&self) -> Vec<(u64, u64)> {
        let mut cursor = 0;
        self.ranges()
            .map(|range| {
                let pair = (range.start - cursor, range.end - range.start);
                cursor = range.end;
                pair
            })
            .collect()
    }

    /// The set that [`ChunkSet::to_gaps`] gave, or `None` where no set gives these pairs.
    pub fn from_gaps(gaps: &[(u64, u64)]) -> Option<Self> {
        let mut set = Self::new();
        let mut cursor = 0u64;
        for (place, &(gap, length)) in gaps.iter().enumerate() {
            if length == 0 || (gap == 0 && place > 0) {
                return None;
            }
            let start = cursor.checked_add(gap)?;
            cursor = start.checked_add(length)?;
            set.ranges.insert(start, cursor);
            set.chunks += length;
        }
        Some(set)
    }
}

impl FromIterator<Range<u64>> for ChunkSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Range<u64>),
        Remove(Range<u64>),
    }

    fn any_range() -> impl Strategy<Value = Range<u64>> {
        (0..80u64, 0..20u64).prop_map(|(start, length)| start..start + length)
    }

    fn any_steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![any_range().prop_map(Step::Insert), any_range().prop_map(Step::Remove)];
        prop::collection::vec(step, 0..40)
    }

    fn run(steps: &[Step]) -> (ChunkSet, BTreeSet<u64>) {
        let (mut set, mut model) = (ChunkSet::new(), BTreeSet::new());
        for step in steps {
            match step.clone() {
                Step::Insert(range) => {
                    set.insert(range.clone());
                    model.extend(range);
                }
                Step::Remove(range) => {
                    set.remove(range.clone());
                    model.retain(|chunk| !range.contains(chunk));
                }
            }
        }
        (set, model)
    }

    fn members(set: &ChunkSet) -> BTreeSet<u64> {
        set.ranges().flatten().collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in any_steps(), window in any_range(), count in 0..30u64) {
            let (set, model) = run(&steps);
            prop_assert_eq!(&members(&set), &model);
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.first(), model.first().copied());
            let ranges: Vec<_> = set.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "ranges neither overlap nor touch");
            let inside: BTreeSet<u64> = set.within(window.clone()).flatten().collect();
            prop_assert_eq!(inside, model.iter().copied().filter(|chunk| window.contains(chunk)).collect::<BTreeSet<_>>());
            let first: Vec<u64> = set.first_n(count).into_iter().flatten().collect();
            prop_assert_eq!(first, model.iter().copied().take(count as usize).collect::<Vec<_>>());
            prop_assert!((0..100).all(|chunk| set.contains(chunk) == model.contains(&chunk)));
            prop_assert_eq!(ChunkSet::from_gaps(&set.to_gaps()), Some(set));
        }

        #[test]
        fn union_and_difference_follow_the_members(one in any_steps(), other in any_steps()) {
            let ((set, model), (set_2, model_2)) = (run(&one), run(&other));
            let mut union = set.clone();
            union.union(&set_2);
            prop_assert_eq!(members(&union), &model | &model_2);
            let mut difference = set;
            difference.difference(&set_2);
            prop_assert_eq!(members(&difference), &model - &model_2);
        }
    }

    #[test]
    fn gaps_that_no_set_gives_are_refused() {
        assert_eq!(ChunkSet::from_gaps(&[(0, 0)]), None);
        assert_eq!(ChunkSet::from_gaps(&[(0, 1), (0, 1)]), None);
        assert_eq!(ChunkSet::from_gaps(&[(u64::MAX, 1)]), None);
        assert_eq!(ChunkSet::from_gaps(&[(1, 1), (u64::MAX, 1)]), None);
    }
}
