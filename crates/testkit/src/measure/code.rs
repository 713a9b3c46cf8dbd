//! An assembler of a few instructions (RFC 9669), with labels.

use std::os::fd::{AsRawFd as _, OwnedFd};

/// A register, 0 to 10.
pub(super) type Register = u8;

/// Helpers of linux/bpf.h.
pub(super) const LOOK_UP: i32 = 1;
pub(super) const TAIL_CALL: i32 = 12;
pub(super) const REDIRECT: i32 = 23;

/// Operations, with a register or a number.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Add = 0x00,
    Multiply = 0x20,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Modulo = 0x90,
    Xor = 0xa0,
    Move = 0xb0,
}

/// Sizes in memory, bytes.
#[derive(Clone, Copy)]
pub(super) enum Size {
    One = 0x10,
    Two = 0x08,
    Four = 0x00,
    Eight = 0x18,
}

/// A place that a jump goes to.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// A program in the making.
#[derive(Default)]
pub(super) struct Code {
    instructions: Vec<u64>,
    /// Of each label, where it is.
    labels: Vec<usize>,
    /// Jumps: where, and to which label.
    jumps: Vec<(usize, usize)>,
}

impl Code {
    fn push(&mut self, opcode: u8, destination: Register, source: Register, offset: i16, immediate: i32) {
        self.instructions.push(
            u64::from(opcode)
                | u64::from(destination) << 8
                | u64::from(source) << 12
                | u64::from(offset as u16) << 16
                | u64::from(immediate as u32) << 32,
        );
    }

    /// `to = to <operation> from`, 64 bits.
    pub(super) fn with(&mut self, operation: Operation, to: Register, from: Register) {
        self.push(operation as u8 | 0x0f, to, from, 0, 0);
    }

    /// `to = to <operation> number`, 64 bits.
    pub(super) fn number(&mut self, operation: Operation, to: Register, number: i32) {
        self.push(operation as u8 | 0x07, to, 0, 0, number);
    }

    /// The same in 32 bits, which clears the upper half and takes the number as unsigned.
    pub(super) fn number_32(&mut self, operation: Operation, to: Register, number: u32) {
        self.push(operation as u8 | 0x04, to, 0, 0, number as i32);
    }

    pub(super) fn load(&mut self, size: Size, to: Register, from: Register, offset: i16) {
        self.push(0x61 | size as u8, to, from, offset, 0);
    }

    pub(super) fn store(&mut self, size: Size, to: Register, offset: i16, from: Register) {
        self.push(0x63 | size as u8, to, from, offset, 0);
    }

    pub(super) fn store_number(&mut self, size: Size, to: Register, offset: i16, number: i32) {
        self.push(0x62 | size as u8, to, 0, offset, number);
    }

    /// Turns the lower 16, 32 or 64 bits of a register to network byte order; the rest is cleared.
    pub(super) fn big_endian(&mut self, to: Register, bits: i32) {
        self.push(0xdc, to, 0, 0, bits);
    }

    /// The descriptor of a map.
    pub(super) fn map(&mut self, to: Register, map: &OwnedFd) {
        self.push(0x18, to, 1, 0, map.as_raw_fd());
        self.instructions.push(0);
    }

    /// The address of an array's first value.
    pub(super) fn value(&mut self, to: Register, map: &OwnedFd) {
        self.push(0x18, to, 2, 0, map.as_raw_fd());
        self.instructions.push(0);
    }

    pub(super) fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    /// Ends with this answer.
    pub(super) fn answer(&mut self, number: i32) {
        self.number(Operation::Move, 0, number);
        self.exit();
    }

    pub(super) fn exit(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    /// A label, to be put in its place later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = self.instructions.len();
    }

    fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label.0));
    }

    pub(super) fn if_greater(&mut self, left: Register, right: Register, label: Label) {
        self.jump(label);
        self.push(0x2d, left, right, 0, 0);
    }

    pub(super) fn if_zero(&mut self, register: Register, label: Label) {
        self.jump(label);
        self.push(0x15, register, 0, 0, 0);
    }

    /// The instructions, with the jumps resolved.
    pub(super) fn finish(mut self) -> Vec<u64> {
        for (from, label) in self.jumps {
            let offset = self.labels[label] as i64 - from as i64 - 1;
            self.instructions[from] |= u64::from(offset as i16 as u16) << 16;
        }
        self.instructions
    }
}
