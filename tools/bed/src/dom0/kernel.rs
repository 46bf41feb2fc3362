//! dom0's kernel, as a package has it and as Xen boots it at once.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::fail;
use crate::host::{self, Context, Result, Running};

/// The version of the one kernel that was unpacked.
pub fn version(root: &Path) -> Result<String> {
    let boot = root.join("boot");
    fs::read_dir(&boot)
        .during("list", &boot)?
        .flatten()
        .find_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("vmlinuz-")
                .map(str::to_owned)
        })
        .ok_or_else(|| fail!("the package linux-image-amd64 brought no kernel"))
}

/// Takes the ELF file out of a bzImage, sparing Xen the slow work (Linux Documentation/arch/x86/boot.rst: setup_sects,
/// payload_offset, payload_length).
pub fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| {
        image
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
    };
    let payload = || {
        let sectors = match *image.get(0x1f1)? {
            0 => 4,
            n => usize::from(n),
        };
        let start = (sectors + 1) * 512 + word(0x248)?;
        image.get(start..start + word(0x24c)?)
    };
    let payload = payload().ok_or_else(|| fail!("dom0's kernel is not a bzImage"))?;
    match payload {
        [0xfd, b'7', b'z', ..] => decompress("xz", payload),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => decompress("zstd", payload),
        _ => Err(fail!(
            "dom0's kernel is compressed in a way this program does not know"
        )),
    }
}

/// Runs `data` through a decompressor. Trailing bytes that are not compressed data (a kernel's payload ends with its
/// length) are ignored.
pub fn decompress(program: &str, data: &[u8]) -> Result<Vec<u8>> {
    use std::io::{Read, Write};
    let mut command = host::tied(program);
    command
        .args(["-dcq"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command, program)?;
    let child = running.child();
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(fail!("cannot talk to {program}"));
    };
    let mut plain = Vec::new();
    std::thread::scope(|scope| {
        // The reader closes early on trailing bytes: a broken pipe here is no news.
        scope.spawn(move || input.write_all(data));
        output.read_to_end(&mut plain)
    })
    .map_err(|error| fail!("cannot read from {program}: {error}"))?;
    running
        .child()
        .wait()
        .map_err(|error| fail!("{program}: {error}"))?;
    if plain.is_empty() {
        Err(fail!("{program} could not unpack part of dom0"))
    } else {
        Ok(plain)
    }
}
