//! Serves a connection.

use std::sync::Arc;

use super::Task;
use super::connect::Ring;
use super::counters::Counters;

/// Serves until it is told to end.
pub fn serve(_task: &Task, _rings: Vec<Ring>, _counters: &Arc<Counters>) -> Result<(), String> {
    Err("not yet".into())
}
