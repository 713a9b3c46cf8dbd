//! The programs of the object, and the way from those that observe to those that enforce.

use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};

use super::object::missing;
use super::{Hook, KernelError, refusal};

/// The programs, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    XdpIngress,
    TcIngress,
    TcEgress,
    XdpObserve,
    TcObserveIn,
    TcObserveOut,
}

impl Program {
    /// The one that enforces at a hook.
    pub(super) const fn at(hook: Hook) -> Self {
        match hook {
            Hook::TcxIngress => Self::TcIngress,
            Hook::TcxEgress => Self::TcEgress,
            Hook::XdpNative | Hook::XdpGeneric => Self::XdpIngress,
        }
    }

    /// Its name in the object.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::XdpIngress => "xdp_ingress",
            Self::TcIngress => "tc_ingress",
            Self::TcEgress => "tc_egress",
            Self::XdpObserve => "xdp_observe",
            Self::TcObserveIn => "tc_observe_in",
            Self::TcObserveOut => "tc_observe_out",
        }
    }

    /// The one that observes before it.
    pub(super) const fn observer(self) -> Self {
        match self {
            Self::XdpIngress | Self::XdpObserve => Self::XdpObserve,
            Self::TcIngress | Self::TcObserveIn => Self::TcObserveIn,
            Self::TcEgress | Self::TcObserveOut => Self::TcObserveOut,
        }
    }

    /// The map and the index by which its observer goes on with it.
    const fn link(self) -> (&'static str, u32) {
        match self {
            Self::XdpIngress | Self::XdpObserve => ("XDP_ENFORCED", 0),
            Self::TcIngress | Self::TcObserveIn => ("TC_ENFORCED", 0),
            Self::TcEgress | Self::TcObserveOut => ("TC_ENFORCED", 1),
        }
    }
}

/// The program that stores flows, which is attached to nothing.
pub(super) const FLOW_IMPORT: &str = "flow_import";

/// A program of the object, by its name.
pub(super) type Loadable<'a> = (&'static str, &'a mut aya::programs::Program);

/// Those of these programs that are not loaded yet.
pub(super) fn unloaded<'a>(
    object: &'a mut Ebpf,
    names: &BTreeSet<&'static str>,
) -> Result<Vec<Loadable<'a>>, KernelError> {
    if let Some(name) = names.iter().find(|name| object.program(name).is_none()) {
        return Err(missing(name));
    }
    let wanted = object.programs_mut().filter_map(|(name, program)| Some((*names.get(name)?, program)));
    Ok(wanted.filter(|(_, program)| program.fd().is_err()).collect())
}

/// Loads programs, each on a thread of its own: what takes time is the verifier. Its words are kept.
pub(super) fn load(programs: Vec<Loadable>) -> Result<(), KernelError> {
    std::thread::scope(|scope| {
        let loads: Vec<_> = programs
            .into_iter()
            .map(|(name, program)| (name, scope.spawn(move || load_one(name, program))))
            .collect();
        let joined = loads.into_iter().map(|(name, load)| load.join().unwrap_or_else(|_| Err(missing(name))));
        // All of them end before the first error is told.
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

fn load_one(name: &str, program: &mut aya::programs::Program) -> Result<(), KernelError> {
    match program {
        aya::programs::Program::Xdp(program) => program.load(),
        aya::programs::Program::SchedClassifier(program) => program.load(),
        aya::programs::Program::CgroupSkb(program) => program.load(),
        aya::programs::Program::CgroupSockAddr(program) => program.load(),
        aya::programs::Program::CgroupSockopt(program) => program.load(),
        _ => return Err(missing(name)),
    }
    .map_err(|error| refusal::refused(name, error))
}

/// Lets the observer of a loaded program go on with it.
pub(super) fn chain(object: &mut Ebpf, enforced: Program) -> Result<(), KernelError> {
    let (name, (map, index)) = (enforced.name(), enforced.link());
    let what = || format!("chaining program {name}");
    let program = object.program(name).ok_or_else(|| missing(name))?;
    let fd = program.fd().map_err(KernelError::refused(what()))?;
    let fd = fd.try_clone().map_err(KernelError::refused(what()))?;
    let mut next: ProgramArray<&mut MapData> =
        object.map_mut(map).ok_or_else(|| missing(map))?.try_into().map_err(KernelError::refused(what()))?;
    next.set(index, &fd, 0).map_err(KernelError::refused(what()))
}

/// Passes on what the programs say, for as long as the process lives.
#[cfg(feature = "bpf-log")]
pub(super) fn start_log(object: &mut Ebpf) -> Result<(), KernelError> {
    let mut logger = aya_log::EbpfLogger::init(object)
        .map_err(KernelError::refused("listening to the programs' messages"))?;
    std::thread::spawn(move || {
        loop {
            logger.flush();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    Ok(())
}
