//! What the engine tells its operator, read back: the gauges and counters of one test.

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder, SharedString,
    Unit,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Metrics of the thread that a test runs on. Those with labels are kept apart by the value of the first.
#[derive(Default)]
pub struct Gauges(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Gauges {
    /// Listens from here on, as long as the guard lives.
    pub fn listen(&self) -> LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(self)
    }

    /// A gauge's value.
    pub fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.read(name))
    }

    /// A counter's value; `name` or `name/label`.
    pub fn counter(&self, name: &str) -> u64 {
        self.read(name)
    }

    fn read(&self, name: &str) -> u64 {
        self.0.lock().get(name).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let label = key.labels().next().map(|label| format!("/{}", label.value()));
        let name = format!("{}{}", key.name(), label.unwrap_or_default());
        self.0.lock().entry(name).or_default().clone()
    }
}

struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Count(self.cell(key))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
