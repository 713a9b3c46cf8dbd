//! `cargo xtask build`: the agent as it ships, and how large its programs are.

use std::fs;

use anyhow::{Context as _, Result};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

use crate::cargo::build_agent;
use crate::setup;

/// Size of one BPF instruction slot in bytes (RFC 9669, section 3); wide loads take two.
const INSTRUCTION: u64 = 8;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print how many BPF instructions each program and function has, before the verifier removes
    /// what a generation does not use.
    #[arg(long)]
    stats: bool,
}

/// Builds; prints where the binary is.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    let agent = build_agent("release")?;
    println!("{}", agent.binary.display());
    if arguments.stats {
        let data = fs::read(&agent.object).with_context(|| format!("{}", agent.object.display()))?;
        let functions = functions(&data).with_context(|| format!("{}", agent.object.display()))?;
        println!("\n{:>12}  {:<16} function", "instructions", "section");
        for Function { section, name, instructions } in functions {
            println!("{instructions:>12}  {section:<16} {name}");
        }
    }
    Ok(())
}

/// A function in the object. In `.text` they are called by the programs, elsewhere they are programs.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    section: String,
    name: String,
    instructions: u64,
}

/// The functions of a BPF object, by section, in the order of their addresses.
fn functions(data: &[u8]) -> Result<Vec<Function>> {
    let elf = ElfFile64::<object::LittleEndian>::parse(data)?;
    let mut found = Vec::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else { continue };
        let section = elf.section_by_index(index)?;
        if section.kind() == SectionKind::Text {
            let function = Function {
                section: section.name()?.to_owned(),
                name: symbol.name()?.to_owned(),
                instructions: symbol.size() / INSTRUCTION,
            };
            found.push((index, symbol.address(), function));
        }
    }
    found.sort_by_key(|(index, address, _)| (index.0, *address));
    Ok(found.into_iter().map(|(_, _, function)| function).collect())
}
