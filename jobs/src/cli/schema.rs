//! `twinloom schema`: the JSON Schema of the job file, for editors.

use super::Failure;

pub(super) fn execute() -> Result<(), Failure> {
    let schema = crate::schema::schema();
    println!("{}", serde_json::to_string_pretty(&schema).map_err(Failure::of)?);
    Ok(())
}
