//! `cargo xtask setup`: what building and testing needs, checked and fixed.
//!
//! Every step names what is missing and how to fix it; nothing else here knows the recipe.
//! A step is asked again after its fix, so a command that claims success is not believed.

mod fix;
mod machine;
mod steps;
#[cfg(test)]
mod tests;

use anyhow::{Result, bail};

use fix::Fix;
use machine::{Host, Machine};
use steps::{BENCH_STEPS, DENY_STEPS, FUZZ_STEPS, PACKAGE_STEPS, STEPS, SYSTEM_STEPS, Step, VM_STEPS};

/// Mends this machine, or says what to run where the rights are missing. Says nothing if all is there.
pub fn ensure() -> Result<()> {
    ensure_on(&mut Host)
}

/// The same, and what `bench` compares Bulkhead with.
pub fn ensure_bench() -> Result<()> {
    ensure()?;
    ensure_steps(&mut Host, &BENCH_STEPS)
}

/// The same, and what `vm` boots other kernels with.
pub fn ensure_vm() -> Result<()> {
    ensure()?;
    ensure_steps(&mut Host, &VM_STEPS)
}

/// The same, and what `package` builds and packs with.
pub fn ensure_package() -> Result<()> {
    ensure()?;
    ensure_steps(&mut Host, &PACKAGE_STEPS)
}

/// What a guest with a whole system is made with.
pub fn ensure_system() -> Result<()> {
    ensure_steps(&mut Host, &SYSTEM_STEPS)
}

/// The same for fuzzing, which needs no BPF.
pub fn ensure_fuzzing() -> Result<()> {
    ensure_steps(&mut Host, &FUZZ_STEPS)
}

/// What checking dependencies needs.
pub fn ensure_deny() -> Result<()> {
    ensure_steps(&mut Host, &DENY_STEPS)
}

/// Stops a command that needs root, with the line to run instead.
pub fn require_root(command: &str) -> Result<()> {
    if !Host.is_root() {
        bail!(
            "`cargo xtask {command}` needs root: it loads BPF programs and makes network namespaces\n\
             next: sudo env PATH=\"$PATH\" HOME=\"$HOME\" cargo xtask {command}"
        );
    }
    Ok(())
}

fn ensure_on(machine: &mut impl Machine) -> Result<()> {
    ensure_steps(machine, &STEPS)
}

fn ensure_steps(machine: &mut impl Machine, steps: &[Step]) -> Result<()> {
    let lacking: Vec<_> = steps.iter().filter_map(|step| step(machine)).collect();
    if lacking.iter().flat_map(|lack| &lack.fix).any(Fix::needs_root) && !machine.is_root() {
        let what: Vec<_> = lacking.iter().map(|lack| format!("  - {}", lack.what)).collect();
        let how: Vec<_> =
            lacking.iter().flat_map(|lack| &lack.fix).map(|fix| format!("  {}", fix.with_sudo())).collect();
        bail!(
            "setup needs root for what this machine lacks:\n{}\nnext: run\n{}",
            what.join("\n"),
            how.join("\n")
        );
    }
    for step in steps {
        // Asked again: an earlier step may have fixed this one.
        let Some(lack) = step(machine) else { continue };
        if lack.fix.is_empty() {
            bail!("{}", lack.what);
        }
        machine.say(&format!("setup: missing: {}", lack.what));
        for fix in &lack.fix {
            machine.say(&format!("setup: {fix}"));
            machine.fix(fix)?;
        }
        if let Some(still) = step(machine) {
            bail!("setup ran the commands above without an error, and still this is missing: {}", still.what);
        }
    }
    Ok(())
}
