//! Plans and what each allows.

use crate::text::text_enum;

text_enum! {
    /// A plan: what an entitlement gives.
    Plan {
        /// No charge, one small instance.
        Free = "free",
        /// One person.
        Solo = "solo",
        /// A small group.
        Collective = "collective",
        /// A business that hosts for others.
        Label = "label",
    }
}

/// The limits that a plan puts on each instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Limits {
    /// CPU in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes; a gateway needs at least 1.5 GiB.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl Plan {
    /// Returns the limits that one instance of this plan runs under.
    pub const fn limits(self) -> Limits {
        const GIB: u64 = 1 << 30;
        match self {
            Self::Free => Limits { cpu_millis: 1_000, memory_bytes: 2 * GIB, pids: 512 },
            Self::Solo => Limits { cpu_millis: 2_000, memory_bytes: 2 * GIB, pids: 512 },
            Self::Collective => Limits { cpu_millis: 2_000, memory_bytes: 4 * GIB, pids: 1_024 },
            Self::Label => Limits { cpu_millis: 4_000, memory_bytes: 8 * GIB, pids: 2_048 },
        }
    }
}
