//! Reads `/metrics`.

/// Returns the sum of a counter over all labels, or over the lines with `label`, such as `outcome="accepted"`.
pub(super) fn sum(metrics: &str, name: &str, label: Option<&str>) -> u64 {
    let of_counter = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && label.is_none_or(|label| line.contains(label))
    };
    metrics.lines().filter(of_counter).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_is_asked_for() {
        let metrics = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab 9\nb 1\n";
        assert_eq!(sum(metrics, "a", None), 7);
        assert_eq!(sum(metrics, "a", Some("x=\"2\"")), 4);
        assert_eq!(sum(metrics, "b", None), 1);
        assert_eq!(sum(metrics, "c", None), 0);
    }
}
