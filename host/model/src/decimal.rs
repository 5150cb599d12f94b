use std::borrow::Cow;

use crate::sabotaged;

/// RFC 8785 writes integers of up to this many digits exactly, since they are below 2^53.
const SHORT_DIGITS: usize = 15;
/// Positions of the decimal point, in digits from the first digit, at which a number is written without an exponent.
const PLAIN: std::ops::RangeInclusive<i64> = -5..=400;
/// Exponents of up to this many digits are added as machine integers.
const EXPONENT_DIGITS: usize = 17;

/// The exact value of a JSON number: ±0.DIGITS × 10^point. Every value has exactly one representation.
#[derive(Debug, PartialEq, Eq)]
struct Decimal<'a> {
    negative: bool,
    /// Digits without leading or trailing zeros; empty for zero.
    digits: Cow<'a, str>,
    /// A decimal integer of any size, since a short text can have an exponent that exceeds every machine integer.
    point: String,
}

impl<'a> Decimal<'a> {
    /// Parses a number that follows JSON's grammar.
    fn of(number: &'a str) -> Self {
        let (negative, magnitude) = number.strip_prefix('-').map_or((false, number), |magnitude| (true, magnitude));
        let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Cow<'a, str> =
            if fraction.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned([whole, fraction].concat()) };
        let leading = all.len() - all.trim_start_matches('0').len();
        let digits = match all {
            Cow::Borrowed(all) => Cow::Borrowed(all.trim_matches('0')),
            Cow::Owned(all) => Cow::Owned(all.trim_matches('0').to_owned()),
        };
        if digits.is_empty() {
            return Self { negative: false, digits, point: "0".into() };
        }
        Self { negative, digits, point: sum(exponent, whole.len() as i64 - leading as i64) }
    }

    /// Writes the value as a JSON number with all its digits, and with an exponent only if there would be too many
    /// zeros.
    fn write(&self, out: &mut String) {
        let digits = &*self.digits;
        if self.negative {
            out.push('-');
        }
        if digits.is_empty() {
            out.push('0');
            return;
        }
        let zeros = |count: usize| "0".repeat(count);
        match self.point.parse::<i64>() {
            Ok(point) if PLAIN.contains(&point) && point <= 0 => {
                out.extend(["0.", &zeros(point.unsigned_abs() as usize), digits]);
            }
            Ok(point) if PLAIN.contains(&point) => match digits.split_at_checked(point as usize) {
                Some((whole, "")) => out.push_str(whole),
                Some((whole, fraction)) => out.extend([whole, ".", fraction]),
                None => out.extend([digits, &zeros(point as usize - digits.len())]),
            },
            _ => {
                let (first, rest) = digits.split_at(1);
                out.push_str(first);
                if !rest.is_empty() {
                    out.extend([".", rest]);
                }
                out.extend(["e", &sum(&self.point, -1)]);
            }
        }
    }
}

/// Returns the sum of a decimal integer of any size, with or without a sign, and a small integer. Takes time linear in
/// the length of the text.
fn sum(integer: &str, small: i64) -> String {
    let (negative, digits) = match integer.as_bytes().first() {
        Some(b'-') => (true, &integer[1..]),
        Some(b'+') => (false, &integer[1..]),
        _ => (false, integer),
    };
    let digits = digits.trim_start_matches('0');
    let small = if negative { -small } else { small };
    let Some((high, low)) = digits.len().checked_sub(EXPONENT_DIGITS + 1).map(|high| digits.split_at(high + 1)) else {
        let sum = digits.parse::<i64>().unwrap_or_default() + small;
        return if negative { -sum } else { sum }.to_string();
    };
    // `small` changes the low digits, and the high digits by at most one. The sign does not change.
    let unit = 10_i64.pow(EXPONENT_DIGITS as u32);
    let (high, low) = match low.parse::<i64>().unwrap_or_default() + small {
        low @ ..0 => (next(high, false), low + unit),
        low if low >= unit => (next(high, true), low - unit),
        low => (high.to_owned(), low),
    };
    let sum = format!("{high}{low:0EXPONENT_DIGITS$}");
    format!("{}{}", if negative { "-" } else { "" }, sum.trim_start_matches('0'))
}

/// Returns the successor (`up`) or the predecessor of a positive integer.
fn next(integer: &str, up: bool) -> String {
    let (limit, wrapped) = if up { ('9', '0') } else { ('0', '9') };
    let kept = integer.trim_end_matches(limit);
    let turned = integer[kept.len()..].replace(limit, &wrapped.to_string());
    let (before, changed) = kept.split_at(kept.len().saturating_sub(1));
    let changed = changed.bytes().next().unwrap_or(b'0');
    let changed = if up { changed + 1 } else { changed.saturating_sub(1).max(b'0') };
    format!("{before}{}{turned}", char::from(changed))
}

/// Writes a number that follows JSON's grammar, so that two numbers get the same text if and only if they have the same
/// value.
///
/// The text is that of RFC 8785, unless the nearest double differs from the number. In that case the text has all
/// digits of the number. No other number has this text, since RFC 8785 writes a number of that value differently or not
/// at all.
pub(crate) fn write_number(number: &str, out: &mut String) {
    let short = number.trim_start_matches('-').len() <= SHORT_DIGITS;
    if short && number != "-0" && !number.contains(['.', 'e', 'E']) {
        out.push_str(number);
        return;
    }
    let mut buffer = ryu_js::Buffer::new();
    let exact = Decimal::of(number);
    match number.parse::<f64>().ok().filter(|float| float.is_finite()).map(|float| buffer.format_finite(float)) {
        Some(text) if text == number || Decimal::of(text) == exact || sabotaged("exact-numbers") => out.push_str(text),
        _ => exact.write(out),
    }
}

/// Returns the value of a number that follows JSON's grammar, if it is a 64-bit integer; `28.0` is 28.
pub(crate) fn exact_integer(number: &str) -> Option<i64> {
    let decimal = Decimal::of(number);
    let point: i64 = decimal.point.parse().ok()?;
    // 2^63 has 19 digits.
    if !(decimal.digits.len() as i64..=19).contains(&point) {
        return None;
    }
    let mut text = String::new();
    decimal.write(&mut text);
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: &str) -> String {
        let mut text = String::new();
        write_number(number, &mut text);
        text
    }

    /// Returns the text of RFC 8785, which rounds.
    fn rounded(number: &str) -> String {
        serde_json_canonicalizer::to_string(&number.parse::<f64>().expect("a number")).expect("a number")
    }

    /// Returns digits and exponent as integers. Two numbers have the same value if and only if these are equal.
    fn oracle(number: &str) -> (i128, i128) {
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i128);
        let all = mantissa.replace('.', "");
        let digits = all.trim_end_matches('0');
        let zeros = (all.len() - digits.len()) as i128;
        let exponent = exponent.trim_start_matches('+').parse::<i128>().expect("a small exponent");
        match digits {
            "" | "-" => (0, 0),
            digits => (digits.parse().expect("few digits"), exponent - fraction + zeros),
        }
    }

    #[test]
    fn the_same_value_has_one_text() {
        let huge = format!("1e1{}", "0".repeat(40));
        let as_huge = format!("10e{}", "9".repeat(40));
        for (one, other) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("1", "10e-1"),
            ("1", "0.1E+1"),
            ("-0", "0"),
            ("-0.0e5", "0e99999999999999999999999999"),
            ("9007199254740993", "9007199254740993.000"),
            ("9007199254740993", "9007199254740.993e3"),
            ("18446744073709551615", "1.8446744073709551615e19"),
            ("1e999999999", "10e999999998"),
            ("1e-999999999", "0.1e-999999998"),
            (&*huge, &*as_huge),
            ("1e-100000000000000000", "10e-100000000000000001"),
            ("1e100000000000000000", "0.1e100000000000000001"),
            ("1e99999999999999999", "0.1e100000000000000000"),
        ] {
            assert_eq!(written(one), written(other), "{one} {other}");
        }
    }

    #[test]
    fn another_value_has_another_text() {
        for (one, other) in [
            ("1", "-1"),
            ("9007199254740992", "9007199254740993"),
            ("18446744073709551615", "18446744073709551614"),
            ("18446744073709551615", "18446744073709552000"),
            ("1e999999999", "1e1000000000"),
            ("1e-999999999", "0"),
            ("1e400", "1e401"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("1.7976931348623157e308", "1.7976931348623158e308"),
            ("1e100000000000000000000", "1e100000000000000000001"),
            ("1e-100000000000000000000", "1e100000000000000000000"),
        ] {
            assert_ne!(written(one), written(other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_rounded_is_written_as_ever() {
        for number in ["0.1", "1e21", "1e+21", "100", "-2.5e-7", "1E2", "5e-324", "1.50", "9007199254740992", "-0"] {
            assert_eq!(written(number), rounded(number), "{number}");
        }
        for (number, text) in [
            ("9007199254740993", "9007199254740993"),
            ("-18446744073709551615.0", "-18446744073709551615"),
            ("0.30000000000000000001", "0.30000000000000000001"),
            ("12345678901234567.25", "12345678901234567.25"),
            ("0.00000012345678901234567890", "1.234567890123456789e-7"),
            ("1e999999999", "1e999999999"),
            ("-12e999999999", "-1.2e1000000000"),
        ] {
            assert_eq!(written(number), text);
        }
    }

    #[test]
    fn a_long_number_takes_no_time() {
        let digits = "7".repeat(1 << 20);
        let began = std::time::Instant::now();
        for number in [digits.clone(), format!("0.{digits}"), format!("1e{digits}"), format!("-1e-{digits}")] {
            assert!(written(&number).len() >= digits.len());
        }
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }

    #[test]
    fn integers_are_exact_or_none() {
        for (number, integer) in [
            ("28", Some(28)),
            ("28.0", Some(28)),
            ("2.8e1", Some(28)),
            ("-0.0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808.0", Some(i64::MIN)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9223372036854775808", None),
            ("28.00000000000000000001", None),
            ("1e19", None),
            ("1e999999999999999999999", None),
            ("0.5", None),
        ] {
            assert_eq!(exact_integer(number), integer, "{number}");
        }
    }

    fn number() -> impl Strategy<Value = String> {
        // Includes numbers near the limits of integers and doubles, with variation in all significant digits.
        prop_oneof![
            "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,10})?([eE][+-]?[0-9]{1,2})?",
            "-?(900719925474099[0-9]|1844674407370955161[0-9]|922337203685477580[0-9])(\\.0{1,3})?(e[01])?",
            "-?0\\.[0-9]{15,24}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn texts_are_the_same_if_values_are(one in number(), other in number(), shift in 0_i128..3) {
            // Two independently chosen numbers hardly ever have the same value; two spellings of one number always do.
            let (digits, exponent) = oracle(&one);
            let rewritten = format!("{digits}{}e{}", "0".repeat(shift as usize), exponent - shift);
            prop_assert_eq!(written(&one), written(&rewritten));
            prop_assert_eq!(written(&one) == written(&other), oracle(&one) == oracle(&other));
            prop_assert_eq!(oracle(&written(&one)), oracle(&one), "the text has the same value");
            if oracle(&rounded(&one)) == oracle(&one) {
                prop_assert_eq!(written(&one), rounded(&one));
            }
        }

        #[test]
        fn neighbours_differ(integer: u64, scale in 0_u32..5) {
            let at = |integer: u64| written(&format!("{integer}e-{scale}"));
            prop_assert_ne!(at(integer), at(integer.wrapping_add(1)));
        }

        #[test]
        fn exponents_of_any_size_are_added(exponent: i128, small in -1_000_000_i64..1_000_000) {
            prop_assume!(exponent.checked_add(i128::from(small)).is_some());
            prop_assert_eq!(sum(&exponent.to_string(), small), (exponent + i128::from(small)).to_string());
        }
    }
}
