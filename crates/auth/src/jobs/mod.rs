//! Scheduled work.

mod maintenance;
