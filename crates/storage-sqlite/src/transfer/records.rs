use larkauth_storage::transfer::Record;

/// Returns the rows as records of any table.
pub(super) fn records<R: Into<Record>>(rows: Vec<R>) -> Vec<Record> {
    rows.into_iter().map(Into::into).collect()
}
