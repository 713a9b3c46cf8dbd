//! Why a verifier refuses a program, in one line: it says hundreds, and the reason near their end.

use aya::programs::ProgramError;

use super::KernelError;
use super::interface::kernel_release;

/// A refusal of a program.
pub(super) fn refused(program: &str, error: ProgramError) -> KernelError {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return KernelError::refused(format!("loading program {program}"))(error);
    };
    let log = verifier_log.to_string();
    tracing::debug!(program, "the verifier's words:\n{log}");
    KernelError::Verifier {
        release: kernel_release(),
        program: program.to_owned(),
        reason: reason(&log).map_or_else(|| io_error.to_string(), str::to_owned),
    }
}

/// The line of a verifier's words that tells the reason: the last one that is neither state, code nor a sum.
fn reason(log: &str) -> Option<&str> {
    const SUMS: [&str; 7] =
        ["processed ", "verification time", "stack depth", "mark_", "arg#", "Global function", "max_states"];
    let is_code = |line: &str| {
        line.starts_with(';')
            || line.split_once(':').is_some_and(|(at, _)| at.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.rfind(|line| !is_code(line) && !SUMS.iter().any(|sum| line.starts_with(sum)))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_found_among_the_words_of_real_verifiers() {
        let linux_6_1 = "8490: (18) r1 = 0xff110000045cb800    ; R1_w=map_ptr(off=0,ks=16,vs=8,imm=0)\n\
            8492: (79) r2 = *(u64 *)(r10 -48)     ; R2_w=mem(off=144,imm=0) R10=fp0\n\
            8493: (85) call bpf_map_lookup_elem#1\n\
            R2 type=mem expected=fp, pkt, pkt_meta, map_key, map_value\n\
            verification time 3242612 usec\n\
            stack depth 0+0+32+0+48\n\
            processed 48537 insns (limit 1000000) max_states_per_insn 13 total_states 1687\n\n";
        assert_eq!(reason(linux_6_1), Some("R2 type=mem expected=fp, pkt, pkt_meta, map_key, map_value"));
        let loops = "back-edge from insn 4739 to 4740\n\
            verification time 9986 usec\nstack depth 0\nprocessed 0 insns (limit 1000000)\n";
        assert_eq!(reason(loops), Some("back-edge from insn 4739 to 4740"));
        let helper = "; let now = unsafe { bpf_ktime_get_coarse_ns() } @ maps.rs:201\n\
            12: (85) call unknown#161\n\
            invalid func unknown#161\nprocessed 12 insns (limit 1000000)\n";
        assert_eq!(reason(helper), Some("invalid func unknown#161"));
        assert_eq!(reason(""), None);
        assert_eq!(reason("0: (b7) r0 = 0\nprocessed 1 insns"), None);
    }
}
