//! GET /manage/measurements

use leptos::{prelude::*, server_fn::codec::GetUrl};
use protocol::Measurements;

use super::Refusal;

/// Numbers over time: `series` is `ram` (the default), `gpu:0`, `models` or `cpu`; `since` a time or a span that reaches
/// back from now (the default: `15m`); `step` the span that one point stands for (the default makes about 180 points).
#[server(name = ReadMeasurements, prefix = "/manage", endpoint = "measurements", input = GetUrl)]
pub async fn measurements(
    series: Option<String>,
    since: Option<String>,
    step: Option<String>,
) -> Result<Measurements, Refusal> {
    let house = crate::request::house()?;
    let now_ms = house.snapshot().at.unix_ms();
    let series = known(series.unwrap_or_else(|| "ram".to_owned()))?;
    let since_ms = super::arguments::moment(since.as_deref().unwrap_or("15m"), now_ms)?;
    let step_s = match step {
        Some(text) => seconds(&text)?,
        None => now_ms.saturating_sub(since_ms).max(0).unsigned_abs() / 1000 / 180,
    };
    Ok(house.measurements(series, since_ms, step_s.max(1)).await?)
}

#[cfg(feature = "ssr")]
fn known(series: String) -> Result<String, Refusal> {
    let gpu = series.strip_prefix("gpu:").is_some_and(|index| index.parse::<u32>().is_ok());
    if gpu || matches!(series.as_str(), "ram" | "models" | "cpu") {
        return Ok(series);
    }
    Err(Refusal::argument(format!("there is no series `{series}`"), "Send ram, models, cpu, or gpu:0."))
}

#[cfg(feature = "ssr")]
fn seconds(text: &str) -> Result<u64, Refusal> {
    match super::arguments::span(text)?.ms() {
        Some(ms) if ms > 0 => Ok(ms.div_ceil(1000)),
        _ => Err(Refusal::argument(format!("`{text}` is no step"), "For example 5s, 1m or 1h.")),
    }
}

#[cfg(all(test, feature = "ssr"))]
mod tests {
    use super::*;

    #[test]
    fn series_and_steps_that_mean_nothing_are_refused() {
        for good in ["ram", "models", "cpu", "gpu:3"] {
            assert_eq!(known(good.to_owned()).unwrap(), good);
        }
        for bad in ["", "RAM", "gpu:", "gpu:x", "model"] {
            assert!(known(bad.to_owned()).is_err(), "{bad} was taken");
        }
        assert_eq!((seconds("5s").unwrap(), seconds("1m").unwrap(), seconds("100ms").unwrap()), (5, 60, 1));
        assert!(seconds("0").is_err() && seconds("never").is_err() && seconds("x").is_err());
    }
}
