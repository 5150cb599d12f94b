//! `belfry plugin bench`.

use std::path::PathBuf;
use std::time::Duration;

use belfry_testkit::{Measurement, Percentiles};
use clap::Args;

use super::{load, read_component};
use crate::Exit;
use crate::output::{Format, Output, table};

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  belfry plugin bench my_rule.wasm --iterations 10000

Each call runs in a fresh instance, as in the service.")]
pub struct BenchArgs {
    /// File of the component
    pub file: PathBuf,
    /// Directory of the case files that supply the events
    #[arg(long, value_name = "DIR", default_value = "cases")]
    pub cases: PathBuf,
    /// Number of calls to measure per case
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
}

/// Measures the time and memory that a component takes per event.
pub fn run(args: &BenchArgs, output: &Output) -> anyhow::Result<Exit> {
    let suite = load(&args.file, &read_component(&args.file)?)?;
    let mut measured = Vec::new();
    let mut exit = Exit::Ok;
    for measurement in suite.measure_dir(&args.cases, args.iterations as usize)? {
        match measurement {
            Ok(measurement) => measured.push(measurement),
            Err(error) => {
                output.note(error);
                exit = Exit::Check;
            }
        }
    }
    match output.format() {
        Format::Json => measured.iter().try_for_each(|measurement| output.json(measurement))?,
        Format::Text if measured.is_empty() => {}
        Format::Text => {
            output.text(&table(
                ["case", "outcome", "p50 / p99 µs", "instantiate", "call", "drop", "memory KiB"],
                measured.iter().map(row),
            ))?;
            output.note(format!("{} calls per case, each in a fresh instance", args.iterations));
        }
    }
    Ok(exit)
}

fn row(measurement: &Measurement) -> [String; 7] {
    [
        measurement.name.clone(),
        measurement.outcome.to_string(),
        microseconds(measurement.total),
        microseconds(measurement.instantiate),
        microseconds(measurement.call),
        microseconds(measurement.drop),
        (measurement.memory_bytes >> 10).to_string(),
    ]
}

fn microseconds(percentiles: Percentiles) -> String {
    let us = |duration: Duration| duration.as_nanos() as f64 / 1e3;
    format!("{:.1} / {:.1}", us(percentiles.p50), us(percentiles.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_microseconds() {
        let percentiles = Percentiles { p50: Duration::from_nanos(19_870), p99: Duration::from_millis(2) };
        assert_eq!(microseconds(percentiles), "19.9 / 2000.0");
    }
}
