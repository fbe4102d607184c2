//! What an operator sees: log lines on stderr, and metrics for Prometheus.

use crate::config::LogFormat;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{io::IsTerminal as _, sync::OnceLock};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Sends log lines to stderr. `filter` is in the syntax of [`EnvFilter`]; the error says what is wrong with it.
/// Panics become log lines too. Only the first call in a process has an effect on the lines.
pub fn log_to_stderr(format: LogFormat, filter: &str) -> Result<(), String> {
    // rmcp would log each message it handles, at any level, and payloads are in them.
    let quiet = "rmcp=error".parse().expect("it is a directive");
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("log: {err}"))?.add_directive(quiet);
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = match format {
        LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        // Only texts that were written as they are: a formatted one may quote a tenant's data.
        let why = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
        tracing::error!(at, why, "panicked");
    }));
    Ok(())
}

/// Seconds; an attempt ends at 60 s at the latest.
const ATTEMPT_BUCKETS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 60.0];

/// Seconds; a sync takes from a tenth of a millisecond on a fast disk to a second on a sick one.
const COMMIT_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

/// Where metrics are collected. One a process, since the engine's counters are global.
pub fn metrics() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let buckets = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
            builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
                .expect("the bounds are not empty")
        };
        let builder = buckets(PrometheusBuilder::new(), "weft_attempt_seconds", &ATTEMPT_BUCKETS);
        let recorder = buckets(builder, "weft_commit_seconds", &COMMIT_BUCKETS).build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
        }
        handle
    })
}

fn describe() {
    describe_counter!("weft_events_accepted_total", "Events on disk and answered 201");
    describe_counter!("weft_events_routed_total", "Events judged by their workspace's rules");
    describe_counter!("weft_attempts_total", "Delivery attempts by outcome and destination");
    describe_counter!("weft_deliveries_total", "Deliveries that came to an end, by how");
    describe_counter!(
        "weft_deliveries_set_aside_total",
        "Of the failed, those that brought their actor down again and again, or whose payload is lost"
    );
    describe_counter!(
        "weft_deliveries_expired_total",
        "Of the canceled, those that waited for longer than their workspace keeps events"
    );
    describe_counter!("weft_operational_events_total", "What the operator was told, by event");
    describe_counter!(
        "weft_operational_events_dropped_total",
        "What the operator was not told because too much waited to be told, by event"
    );
    describe_gauge!("weft_quarantined", "Actors that fell too often to be started again soon, by kind");
    describe_gauge!("weft_queue_depth", "Deliveries that wait, by their connection's state");
    describe_gauge!(
        "weft_queue_oldest_age_seconds",
        Unit::Seconds,
        "How long the oldest delivery that waits has been waiting, by its connection's state"
    );
    describe_histogram!("weft_attempt_seconds", Unit::Seconds, "The time an attempt took");
    describe_histogram!("weft_commit_seconds", Unit::Seconds, "The time a group of records took to disk");
    describe_counter!("weft_actor_restarts_total", "Actors started again after a fault, by kind");
    // From the first scrape on, so that an alarm on their growth misses nothing.
    for actor in ["connection", "rule", "workspace", "retention", "notices"] {
        metrics::counter!("weft_actor_restarts_total", "actor" => actor).absolute(0);
    }
    for name in ["weft_events_accepted_total", "weft_events_routed_total"] {
        metrics::counter!(name).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_their_buckets() {
        let handle = metrics();
        metrics::counter!("weft_events_accepted_total").increment(2);
        metrics::histogram!("weft_attempt_seconds").record(0.02);
        let text = handle.render();
        assert!(text.contains("weft_events_accepted_total 2"), "{text}");
        assert!(text.contains("weft_attempt_seconds_bucket{le=\"0.025\"} 1"), "{text}");
        assert!(text.contains("# HELP weft_events_accepted_total"), "{text}");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        assert!(log_to_stderr(LogFormat::Text, "weft=loudly").is_err());
    }
}
