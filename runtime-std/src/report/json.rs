//! Results as JSON: one value, one line.

use crate::exit::Outcome;
use crate::terminal::Screen;
use serde_json::{Value, json};

/// Prints `value` on a line of its own.
pub(crate) fn print(value: &Value) -> Outcome {
    print_line(&format!("{value}\n"))
}

/// Prints a JSON text that has its line end.
pub(crate) fn print_line(json: &str) -> Outcome {
    let mut screen = Screen::json();
    screen.add(json.as_bytes())?;
    screen.finish()
}

/// Mean, standard deviation (of the sample) and the samples themselves.
pub(crate) fn samples(samples: &[f64]) -> Value {
    let (mean, stddev) = mean_stddev(samples);
    json!({ "mean": mean, "stddev": stddev, "samples": samples })
}

/// Mean and standard deviation with `n - 1`; the latter is 0 for a single sample.
pub(crate) fn mean_stddev(samples: &[f64]) -> (f64, f64) {
    let n = samples.len().max(1) as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let squares: f64 = samples.iter().map(|s| (s - mean) * (s - mean)).sum();
    (mean, if samples.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        assert_eq!(mean_stddev(&[2.0, 4.0, 6.0]), (4.0, 2.0));
        assert_eq!(mean_stddev(&[3.0]), (3.0, 0.0));
        assert_eq!(samples(&[1.5]).to_string(), r#"{"mean":1.5,"stddev":0.0,"samples":[1.5]}"#);
    }
}
