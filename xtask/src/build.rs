//! `cargo xtask build`: the agent as it ships, and how large its programs are.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

use crate::cargo::{self, build_agent};
use crate::setup;

/// Size of one BPF instruction slot in bytes (RFC 9669, section 3); wide loads take two.
const INSTRUCTION: u64 = 8;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print how many BPF instructions each program and function has, before the verifier removes
    /// what a generation does not use; and, as root, how many it follows for every specialisation
    /// on this kernel.
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
        println!();
        verify()?;
    }
    Ok(())
}

/// Loads every specialisation: how many instructions the verifier of this kernel follows for it.
fn verify() -> Result<()> {
    let mut cargo = cargo::command();
    cargo.args(["run", "--quiet", "--release", "--package", "bulkhead-dataplane", "--example", "verified"]);
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "a specialisation was refused (root is needed, and BPF); its words are above");
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
                // Without the hash, which changes from build to build.
                name: format!("{:#}", rustc_demangle::demangle(symbol.name()?)),
                instructions: symbol.size() / INSTRUCTION,
            };
            found.push((index, symbol.address(), function));
        }
    }
    found.sort_by_key(|(index, address, _)| (index.0, *address));
    Ok(found.into_iter().map(|(_, _, function)| function).collect())
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolScope};

    use super::*;

    /// An object with one function after another in a section of code, and a table in one of data.
    fn sample() -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let code = object.add_section(Vec::new(), b"classifier".to_vec(), SectionKind::Text);
        let data = object.add_section(Vec::new(), b".rodata".to_vec(), SectionKind::ReadOnlyData);
        for (name, section, kind, size) in [
            ("second", code, SymbolKind::Text, 24),
            ("first", code, SymbolKind::Text, 16),
            ("SETTINGS", data, SymbolKind::Data, 64),
        ] {
            let symbol = object.add_symbol(Symbol {
                name: name.into(),
                value: 0,
                size: 0,
                kind,
                scope: SymbolScope::Dynamic,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
            object.add_symbol_data(symbol, section, &vec![0; size], 8);
        }
        object.write().unwrap()
    }

    #[test]
    fn functions_are_counted_in_order_and_data_is_not() {
        let found = functions(&sample()).unwrap();
        let expected = [("second", 3), ("first", 2)].map(|(name, instructions)| Function {
            section: "classifier".to_owned(),
            name: name.to_owned(),
            instructions,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(functions(b"#!/bin/sh\n").is_err());
    }
}
