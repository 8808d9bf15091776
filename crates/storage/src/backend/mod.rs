//! Code shared by all database crates, which implement [`Store`](crate::Store): connections with deadlines, rows and
//! their conversion to the domain's types, sealing of secrets, comparison of a schema with the migrations.

#[expect(missing_docs, reason = "each field is the column of its name")]
pub mod admission;
pub mod claims;
mod device_grant;
pub mod driver;
#[expect(missing_docs, reason = "each field is the column of its name")]
pub mod losses;
pub mod migrations;
#[expect(missing_docs, reason = "each field and constant is the column or table of its name")]
pub mod rows;
#[expect(missing_docs, reason = "each field is the sealed value of its name")]
pub mod sealed;
