//! `staunch doctor`: what is wrong, or will be.
//!
//! Each check has a code that does not change, evidence, and what to do. They look at what the HTTP
//! interface says once, so a check costs a request at most. `docs/cli.md` lists them.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    failure::Exit,
    options::Options,
    output::{self, Listing},
};

mod access;
mod dead_letters;
mod facts;
mod machine;
mod routing;
mod settings;

use facts::Facts;

const COLUMNS: &[(&str, &str)] = &[
    ("CODE", "code"),
    ("SEVERITY", "severity"),
    ("WHAT", "what"),
    ("FIX", "fix"),
];

/// Findings of one check that are shown; more are counted.
const SHOWN_MAX: usize = 10;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    listing: Listing,
}

/// How bad it is.
#[derive(Clone, Copy)]
enum Severity {
    /// Messages are lost or stuck, or somebody may do what they should not.
    Wrong,
    /// It may be meant.
    Odd,
}

/// Something that a human must look at.
struct Finding {
    what: String,
    fix: String,
}

/// Looks for one thing.
struct Check {
    code: &'static str,
    severity: Severity,
    run: fn(&Facts) -> Vec<Finding>,
}

const fn check(code: &'static str, severity: Severity, run: fn(&Facts) -> Vec<Finding>) -> Check {
    Check {
        code,
        severity,
        run,
    }
}

/// All checks. A code is never used again for something else.
const CHECKS: &[Check] = &[
    check("D01", Severity::Wrong, machine::alarms),
    check("D02", Severity::Wrong, machine::nodes_down),
    check("D03", Severity::Wrong, machine::leaderless),
    check("D04", Severity::Odd, machine::files),
    check("D05", Severity::Wrong, machine::horizon),
    check("D10", Severity::Wrong, access::default_password),
    check("D11", Severity::Odd, access::without_permissions),
    check("D12", Severity::Wrong, access::nearly_at_limit),
    check("D20", Severity::Wrong, dead_letters::exchange_missing),
    check("D21", Severity::Wrong, dead_letters::lead_nowhere),
    check("D22", Severity::Odd, dead_letters::nobody_looks),
    check("D23", Severity::Odd, dead_letters::dropped),
    check("D30", Severity::Wrong, routing::alternate_missing),
    check("D31", Severity::Odd, routing::exchange_leads_nowhere),
    check("D40", Severity::Odd, settings::policy_matches_nothing),
    check("D41", Severity::Wrong, settings::policies_of_equal_rank),
    check("D42", Severity::Odd, settings::unbounded),
    check("D43", Severity::Odd, settings::unlimited_prefetch),
];

/// Ends with 10 if there are findings.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let facts = Facts::gather(&args.options.target()?)?;
    let mut rows = Vec::new();
    for check in CHECKS {
        let findings = (check.run)(&facts);
        let more_count = findings.len().saturating_sub(SHOWN_MAX);
        let shown = if args.options.json {
            findings.len()
        } else {
            SHOWN_MAX
        };
        let row = |what: &str, fix: &str| {
            json!({
                "code": check.code,
                "severity": check.severity.name(),
                "what": what,
                "fix": fix,
            })
        };
        rows.extend(findings.iter().take(shown).map(|it| row(&it.what, &it.fix)));
        if more_count > 0 && !args.options.json {
            rows.push(row(&format!("and {more_count} more"), "--json shows all"));
        }
    }
    report(args, rows)
}

fn report(args: &DoctorArgs, rows: Vec<Value>) -> anyhow::Result<ExitCode> {
    let is_well = rows.is_empty();
    if is_well && !args.options.json {
        output::text(&format!("{} checks, nothing found\n", CHECKS.len()))?;
    } else {
        output::list(&args.options, &args.listing, rows, COLUMNS)?;
    }
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        Exit::Findings.code()
    })
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Odd => "odd",
        }
    }
}

impl Finding {
    fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }
}
