//! Definitions files: whatever is in one, it is read or refused, its plan can be applied, and
//! what the catalog exports then can be imported again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use staunch_broker::{Catalog, password::SALT_SIZE_BYTES};
use staunch_definitions::{Import, export, import};

fuzz_target!(|file: &[u8]| {
    let Ok(found) = import(file, None, &mut salt) else {
        return;
    };
    let catalog = applied(&found);
    let exported = export(&catalog, None);
    let again = import(&exported, None, &mut salt).expect("an export can be imported");
    applied(&again);
});

fn salt() -> [u8; SALT_SIZE_BYTES] {
    [7; SALT_SIZE_BYTES]
}

/// A catalog in which a plan was carried out as far as that goes.
fn applied(found: &Import) -> Catalog {
    let mut catalog = Catalog::new(1);
    for planned in &found.plan {
        let answer = catalog.apply(&planned.command);
        planned.verdict(answer.as_ref().map(drop));
    }
    catalog.check_invariants();
    catalog
}
