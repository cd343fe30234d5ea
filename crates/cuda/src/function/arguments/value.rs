//! How a field is made from the words of a call.

use super::{Direction, Place, Word};

/// What a field's value is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Word(Word),
    /// The first that is not null: a structure has a member for each kind of handle.
    FirstSet([Word; 2]),
    Product(&'static [Word]),
    /// The product of `extent`, unless one of `arrays` is not null: then the extent counts elements
    /// of the array, not bytes.
    Volume {
        extent: [Word; 3],
        arrays: [Word; 2],
    },
    /// x, y, z.
    Triple([Word; 3]),
    /// `cudaMemcpyKind`, as passed: see [`Direction::of_kind`].
    MemcpyKind(Word),
    /// What the function's name says.
    Direction(Direction),
    /// The two `CUmemorytype` of a copy: see [`Direction::between`].
    MemoryTypes {
        source: Word,
        destination: Word,
    },
    /// The address that a `CUmemorytype` selects: `host` for memory of the host, `device` for that
    /// of a device or unified; none for an array.
    Located {
        memory_type: Word,
        host: Word,
        device: Word,
    },
}

/// A field's value in one call, to be written as [`super::Field::form`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluated {
    /// A number, address or handle.
    Number(u64),
    Triple([u64; 3]),
    Direction(Direction),
}

impl Value {
    /// The words that the value is made from.
    pub fn words(&self) -> Vec<Word> {
        match *self {
            Self::Word(word) | Self::MemcpyKind(word) => vec![word],
            Self::FirstSet(words) => words.to_vec(),
            Self::Product(words) => words.to_vec(),
            Self::Volume { extent, arrays } => [&extent[..], &arrays].concat(),
            Self::Triple(words) => words.to_vec(),
            Self::Direction(_) => Vec::new(),
            Self::MemoryTypes { source, destination } => vec![source, destination],
            Self::Located { memory_type, host, device } => vec![memory_type, host, device],
        }
    }

    /// The value in one call, of which `read` gives the words of registers, stack and memory.
    /// `None` if a word is not there, or they make no value of this kind.
    pub fn evaluate(&self, read: impl Fn(Place) -> Option<u64>) -> Option<Evaluated> {
        let number = |word: Word| word.read(&read);
        // CUmemorytype and cudaMemcpyKind have 32 bits.
        let code = |word: Word| u32::try_from(number(word)?).ok();
        let product = |words: &[Word]| {
            words.iter().try_fold(1_u64, |product, word| product.checked_mul(number(*word)?))
        };
        Some(match *self {
            Self::Word(word) => Evaluated::Number(number(word)?),
            Self::FirstSet([first, second]) => Evaluated::Number(match number(first)? {
                0 => number(second)?,
                set => set,
            }),
            Self::Product(words) => Evaluated::Number(product(words)?),
            Self::Volume { extent, arrays } => {
                for array in arrays {
                    if number(array)? != 0 {
                        return None;
                    }
                }
                Evaluated::Number(product(&extent)?)
            }
            Self::Triple([x, y, z]) => Evaluated::Triple([number(x)?, number(y)?, number(z)?]),
            Self::MemcpyKind(kind) => Evaluated::Direction(Direction::of_kind(code(kind)?)?),
            Self::Direction(direction) => Evaluated::Direction(direction),
            Self::MemoryTypes { source, destination } => {
                Evaluated::Direction(Direction::between(code(source)?, code(destination)?)?)
            }
            Self::Located { memory_type, host, device } => {
                Evaluated::Number(match code(memory_type)? {
                    HOST_MEMORY => number(host)?,
                    DEVICE_MEMORY | UNIFIED_MEMORY => number(device)?,
                    _ => return None,
                })
            }
        })
    }
}

/// `CUmemorytype` (`cuda.h`).
pub(super) const HOST_MEMORY: u32 = 1;
pub(super) const DEVICE_MEMORY: u32 = 2;
pub(super) const ARRAY_MEMORY: u32 = 3;
pub(super) const UNIFIED_MEMORY: u32 = 4;

#[cfg(test)]
mod tests {
    use super::super::{Part, arguments};
    use super::Evaluated::Number;
    use super::*;

    /// The fields of a call of `name`, of which register n holds `registers[n]`, word n of the
    /// stack `stack[n]`, and word n behind a register `memory[n]`.
    fn fields(
        name: &str,
        registers: &[u64],
        stack: &[u64],
        memory: &[u64],
    ) -> Vec<(&'static str, Option<Evaluated>)> {
        let read = |place| match place {
            Place::Register(number) => registers.get(usize::from(number)).copied(),
            Place::Stack(word) => stack.get(usize::from(word)).copied(),
            Place::Memory { word, .. } => memory.get(usize::from(word)).copied(),
            Place::Constant(_) => None,
        };
        arguments(name)
            .iter()
            .map(|argument| (argument.field.key(), argument.value.evaluate(read)))
            .collect()
    }

    #[test]
    fn a_grid_by_value_is_packed_in_two_registers() {
        // cudaLaunchKernel(function, {7, 2, 3}, {128, 4, 1}, arguments, 4096, stream), with what a
        // compiler may leave in the upper halves of z.
        let registers = [0xf0, 2 << 32 | 7, 0xdead << 32 | 3, 4 << 32 | 128, 0xbeef << 32 | 1, 0xa];
        assert_eq!(
            fields("cudaLaunchKernel_ptsz", &registers, &[4096, 0x57], &[]),
            [
                ("function", Some(Number(0xf0))),
                ("grid", Some(Evaluated::Triple([7, 2, 3]))),
                ("block", Some(Evaluated::Triple([128, 4, 1]))),
                ("shared_bytes", Some(Number(4096))),
                ("stream", Some(Number(0x57))),
            ]
        );
    }

    #[test]
    fn a_launch_of_the_driver_passes_its_sizes_one_by_one() {
        assert_eq!(
            fields("cuLaunchKernel", &[0xf0, 7, 2, 3, 128, 4], &[1, 4096, 0x57], &[]),
            [
                ("function", Some(Number(0xf0))),
                ("grid", Some(Evaluated::Triple([7, 2, 3]))),
                ("block", Some(Evaluated::Triple([128, 4, 1]))),
                ("shared_bytes", Some(Number(4096))),
                ("stream", Some(Number(0x57))),
            ]
        );
    }

    #[test]
    fn a_node_has_its_kernel_in_the_first_member_that_is_set() {
        // func, grid, block, sharedMemBytes, kernelParams, extra, kern, ctx.
        let node =
            |func, kern| [func, 2 << 32 | 7, 128 << 32 | 3, 1 << 32 | 4, 4096, 0x8, 0x9, kern, 0xc];
        let registers = [0x9000, 0x6, 0, 0, 0x9100];
        let function = |name, memory: &[u64]| fields(name, &registers, &[], memory)[0].1;
        for name in ["cuGraphAddKernelNode", "cuGraphAddKernelNode_v2", "cudaGraphAddKernelNode"] {
            assert_eq!(
                fields(name, &registers, &[], &node(0xf0, 0xf1)),
                [
                    ("function", Some(Number(0xf0))),
                    ("grid", Some(Evaluated::Triple([7, 2, 3]))),
                    ("block", Some(Evaluated::Triple([128, 4, 1]))),
                    ("shared_bytes", Some(Number(4096))),
                    ("graph", Some(Number(0x6))),
                ]
            );
        }
        assert_eq!(function("cuGraphAddKernelNode_v2", &node(0, 0xf1)), Some(Number(0xf1)));
        assert_eq!(function("cuGraphAddKernelNode_v2", &node(0, 0xf1)[..7]), None, "not read");
        assert_eq!(function("cuGraphAddKernelNode", &node(0, 0xf1)), Some(Number(0)));
    }

    #[test]
    fn a_plane_is_located_by_its_memory_types() {
        // CUDA_MEMCPY2D: x, y, type, host, device, array, pitch, twice; width, height.
        let mut plane = [0, 0, 1, 0x1000, 0x2000, 0, 64, 0, 0, 2, 0x3000, 0x4000, 0, 64, 32, 10];
        assert_eq!(
            fields("cuMemcpy2D_v2", &[0x9000], &[], &plane),
            [
                ("bytes", Some(Number(320))),
                ("kind", Some(Evaluated::Direction(Direction::HostToDevice))),
                ("dst", Some(Number(0x4000))),
                ("src", Some(Number(0x1000))),
            ]
        );
        plane[2] = 3;
        plane[9] = 7;
        assert_eq!(
            fields("cuMemcpy2D_v2", &[0x9000], &[], &plane),
            [("bytes", Some(Number(320))), ("kind", None), ("dst", None), ("src", None)]
        );
    }

    #[test]
    fn a_volume_of_an_array_is_no_number_of_bytes() {
        let mut volume = [0_u64; 20];
        (volume[4], volume[12]) = (0x1000, 0x2000);
        (volume[16], volume[17], volume[18]) = (64, 3, 2);
        volume[19] = 0xffff_ffff_0000_0002;
        let bytes = |volume: &[u64]| fields("cudaMemcpy3D", &[0x9000], &[], volume)[0];
        assert_eq!(bytes(&volume), ("bytes", Some(Number(384))));
        assert_eq!(
            fields("cudaMemcpy3D", &[0x9000], &[], &volume)[1..],
            [
                ("kind", Some(Evaluated::Direction(Direction::DeviceToHost))),
                ("dst", Some(Number(0x2000))),
                ("src", Some(Number(0x1000))),
            ]
        );
        volume[8] = 0xa;
        assert_eq!(bytes(&volume), ("bytes", None));
    }

    #[test]
    fn sizes_that_cannot_be_are_no_value() {
        assert_eq!(
            fields("cuMemsetD32_v2", &[0x1000, 5, 6], &[], &[])[0],
            ("bytes", Some(Number(24)))
        );
        assert_eq!(fields("cuMemsetD32_v2", &[0x1000, 5, u64::MAX], &[], &[])[0], ("bytes", None));
        assert_eq!(fields("cuMemsetD32_v2", &[0x1000, 5], &[], &[])[0], ("bytes", None));
    }

    #[test]
    fn old_versions_have_32_bits() {
        let dirty = 0xffff_ffff_0000_0010;
        assert_eq!(
            fields("cuMemAlloc", &[0x9000, dirty], &[], &[dirty]),
            [("bytes", Some(Number(16))), ("ptr", Some(Number(16)))]
        );
        assert_eq!(Part::High.of(dirty), 0xffff_ffff);
    }
}
