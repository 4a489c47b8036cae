//! Small diagrams for a terminal, made of block characters.

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// Draws one column for each value, as high as its share of the largest value.
pub(crate) fn columns(values: &[u64]) -> String {
    let max = values.iter().copied().max().unwrap_or(0).max(1);
    let column = |value: &u64| match *value {
        0 => ' ',
        // Rounded up, so that every value above 0 is visible.
        value => EIGHTHS[(u128::from(value) * 8).div_ceil(u128::from(max)) as usize - 1],
    };
    values.iter().map(column).collect()
}

/// Draws a bar. It has `width` characters if `value` equals `max`.
pub(crate) fn bar(value: u64, max: u64, width: usize) -> String {
    let eighths = u128::from(value) * 8 * width as u128;
    let eighths = eighths.div_ceil(u128::from(max.max(1))) as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_column_is_full_and_the_smallest_is_still_seen() {
        assert_eq!(columns(&[0, 1, 50, 100]), " ▁▄█");
        assert_eq!(columns(&[u64::MAX, 1]), "█▁");
        assert_eq!(columns(&[]), "");
        assert_eq!(columns(&[0, 0]), "  ");
    }

    #[test]
    fn a_bar_is_as_long_as_its_share_and_never_longer() {
        assert_eq!(bar(100, 100, 4), "████");
        assert_eq!(bar(50, 100, 4), "██");
        assert_eq!(bar(1, 100, 4), "▏");
        assert_eq!(bar(0, 100, 4), "");
        assert_eq!(bar(0, 0, 4), "");
        assert_eq!(bar(u64::MAX, u64::MAX, 4), "████");
    }
}
