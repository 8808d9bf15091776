//! What every database behind the traits needs: connections with deadlines, rows and their way to the domain's types,
//! sealing, and the comparison of a schema with the migrations. For the crates that implement [`Store`](crate::Store).

pub mod driver;
pub mod migrations;
#[expect(missing_docs, reason = "each field and constant is the column or table of its name")]
pub mod rows;
#[expect(missing_docs, reason = "each field is the sealed value of its name")]
pub mod sealed;
