//! Names of kernels, each with a number: a sequence tells a name once.

use std::{borrow::Cow, collections::HashMap};

use crate::context::{Context, function::Hasher};

/// Different names; beyond, launches tell the number that the kernel has in the trace.
const MAX_NAMES: usize = 1 << 16;
const MAX_BYTES: usize = 64 << 20;

/// Of one name; templates make them long. A library registers many kernels that nobody launches.
const MAX_LAUNCHED_BYTES: usize = 4096;
const MAX_REGISTERED_BYTES: usize = 200;

#[derive(Default)]
pub(super) struct KernelNames {
    /// By the kernel's number in the trace, as launches tell it and as other calls do.
    known: [HashMap<u32, Option<u32>, Hasher>; 2],
    by_text: HashMap<Box<str>, u32, Hasher>,
    texts: Vec<Box<str>>,
    bytes: usize,
}

impl KernelNames {
    /// From 1; `None` if no line has named the kernel.
    pub(super) fn of(&mut self, id: u32, is_launch: bool, context: &Context) -> Option<u32> {
        if let Some(&known) = self.known[usize::from(is_launch)].get(&id) {
            return known;
        }
        let name = context.kernels.get(id).and_then(|kernel| kernel.full_name());
        let most = if is_launch { MAX_LAUNCHED_BYTES } else { MAX_REGISTERED_BYTES };
        let iid = name.and_then(|name| self.intern(&cut(name, most)));
        let known = &mut self.known[usize::from(is_launch)];
        if known.len() >= 2 * MAX_NAMES {
            known.clear();
        }
        known.insert(id, iid);
        iid
    }

    fn intern(&mut self, name: &str) -> Option<u32> {
        if let Some(&iid) = self.by_text.get(name) {
            return Some(iid);
        }
        if self.texts.len() >= MAX_NAMES || self.bytes + name.len() > MAX_BYTES {
            return None;
        }
        self.texts.push(name.into());
        self.bytes += name.len();
        let iid = u32::try_from(self.texts.len()).expect("at most MAX_NAMES");
        self.by_text.insert(name.into(), iid);
        Some(iid)
    }

    pub(super) fn text(&self, iid: u32) -> &str {
        &self.texts[iid as usize - 1]
    }

    /// A line tells the name of this kernel anew.
    pub(super) fn forget(&mut self, id: u32) {
        for known in &mut self.known {
            known.remove(&id);
        }
    }
}

fn cut(name: &str, most: usize) -> Cow<'_, str> {
    if name.len() <= most {
        return name.into();
    }
    format!("{}...", &name[..name.floor_char_boundary(most)]).into()
}
