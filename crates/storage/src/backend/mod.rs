//! What every database behind the traits needs: connections with deadlines, rows and their way to the domain's types,
//! sealing, and the comparison of a schema with the migrations. For the crates that implement [`Store`](crate::Store).

pub mod driver;
pub mod migrations;
pub mod rows;
pub mod sealed;
