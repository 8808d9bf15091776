//! One long connection per enabled application, kept in step with the store.

mod pushes;
mod supervisor;

#[cfg(test)]
pub(crate) use pushes::Pushes;
pub(crate) use supervisor::ConnectionSupervisor;
