//! The NVIDIA driver against the CUDA of vLLM's image.
//!
//! With recent toolkits nothing else compares them: a driver that is too old shows as a CUDA error
//! inside vLLM, minutes later.

use super::{Facts, Finding, missing, note, ok};

/// Oldest drivers by CUDA's major version, as NVIDIA's page on minor version compatibility has them.
const OLDEST: [(u32, u32); 3] = [(11, 450), (12, 525), (13, 580)];

/// 7 billion parameters of two bytes, and a little cache: a T4 just has it.
const DEFAULT_MODEL_MIB: u32 = 15_000;

/// Of images whose tag says nothing.
const USUAL_CUDA: u32 = 13;

pub(super) fn judge(facts: &Facts, minimum: Option<u32>) -> Vec<Finding> {
    let Facts { nvidia_smi, module_version, vllm_image, model, .. } = facts;
    let gpus = match nvidia_smi {
        Err(error) => return vec![broken(error, module_version.as_deref())],
        Ok(gpus) => gpus,
    };
    let Some(first) = gpus.lines().next().filter(|line| !line.trim().is_empty()) else {
        return vec![missing("driver", "nvidia-smi lists no GPU", "lspci | grep -i nvidia")];
    };
    let version = first.split(',').next().unwrap_or_default().trim();
    let major: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
    let cuda = cuda_of(vllm_image.as_deref().unwrap_or_default());
    let of_cuda = OLDEST.iter().find(|(of, _)| *of == cuda).map_or(580, |(_, driver)| *driver);
    let needed = minimum.unwrap_or(of_cuda);
    let mut findings = Vec::new();
    if major < needed {
        findings.push(missing(
            "driver",
            &format!("{version}, older than the {needed} that CUDA {cuda} in vLLM's image needs"),
            &format!(
                "sudo apt-get install nvidia-driver-{needed}-server and reboot, or set VLLM_IMAGE to \
                 an image with CUDA 12 (tags with -cu12) for driver 525 or later"
            ),
        ));
    } else {
        findings.push(ok("driver", version));
    }
    findings.extend(gpus.lines().map(|line| ok("GPU", line.trim())));
    let memory = gpus.lines().filter_map(memory_mib).max().unwrap_or(0);
    if model.is_none() && memory < DEFAULT_MODEL_MIB {
        let found = format!("{memory} MiB, and the default model needs {DEFAULT_MODEL_MIB}");
        findings.push(note("GPU memory", &found, "deploy with a smaller MODEL"));
    }
    findings
}

/// The third field: `15360 MiB`.
fn memory_mib(gpu: &str) -> Option<u32> {
    gpu.split(',').nth(2)?.trim().strip_suffix(" MiB")?.parse().ok()
}

fn broken(error: &str, module: Option<&str>) -> Finding {
    let next = if error.contains("version mismatch") {
        "sudo reboot: the driver was upgraded while its old module is loaded"
    } else if module.is_some() {
        "sudo dmesg | grep -i nvrm: the module is loaded, but does not answer"
    } else {
        "sudo ubuntu-drivers install --gpgpu, and reboot; with Secure Boot the module must be signed"
    };
    missing("driver", error, next)
}

/// By the tag: `v0.20.2-cu129` is CUDA 12.9.
fn cuda_of(image: &str) -> u32 {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    let digits = tag.split("cu").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        &rest[..end]
    });
    digits
        .filter(|digits| digits.len() >= 2)
        .find_map(|digits| digits[..2].parse().ok())
        .unwrap_or(USUAL_CUDA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_is_read_from_tags_that_tell_it() {
        assert_eq!(cuda_of("vllm/vllm-openai:v0.20.2-cu129"), 12);
        assert_eq!(cuda_of("vllm/vllm-openai:cu130-nightly"), 13);
        assert_eq!(cuda_of("vllm/vllm-openai:v0.20.2"), 13);
        assert_eq!(cuda_of(""), 13);
    }
}
