//! The host's mapping: creates the segment, takes its name away again, keeps it while the engine
//! lives.

use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::large::LargeArea;
use super::layout::{Layout, Sizes};
use super::region::Region;
use crate::sys::memory::{self, FileIdentity};

/// All names of segments start like this, so that what a killed start left behind can be found.
const NAME_PREFIX: &str = "nearcall-";

/// Attempts to create a name that nobody sweeps away before it is locked.
const ATTEMPTS: usize = 16;

/// Why there is no segment.
#[derive(Debug)]
pub(crate) enum SegmentError {
    /// Shared memory has no room for it.
    NoRoom { needed: u64, available: u64, total: u64 },
    /// This process may not write a file that large.
    FileSize { needed: u64, limit: u64 },
    /// The system refused something.
    System { action: &'static str, source: io::Error },
}

/// A segment that this process has created. Nameless: it goes with its last user.
pub(crate) struct Segment {
    region: Region,
    /// Handed to the fork server, which maps it too.
    descriptor: OwnedFd,
    identity: FileIdentity,
    /// Unmaps when dropped; `region` points into it.
    _mapping: Shmem,
}

// SAFETY: `Shmem` is an address, a descriptor and a name that nothing changes after `create`;
// only its `Drop` acts on them, once. `region` is `Send` and `Sync` by itself.
unsafe impl Send for Segment {}
// SAFETY: as for `Send`.
unsafe impl Sync for Segment {}

impl Segment {
    /// Creates, reserves, populates and initialises a segment.
    ///
    /// # Errors
    /// No room in shared memory, or what the system said.
    pub(crate) fn create(sizes: Sizes) -> Result<Self, SegmentError> {
        let layout = Layout::new(sizes).ok_or_else(|| SegmentError::System {
            action: "lay out the segment",
            source: io::ErrorKind::InvalidInput.into(),
        })?;
        // Whoever writes beyond it is killed.
        let limit = memory::file_size_limit();
        if layout.file_bytes() > limit {
            return Err(SegmentError::FileSize { needed: layout.file_bytes(), limit });
        }
        sweep();
        let (mapping, descriptor) = create_nameless(layout.segment_bytes)?;
        if (mapping.len() as u64) < layout.segment_bytes {
            return Err(SegmentError::System {
                action: "map the segment",
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        // Pages that are not there when they are touched are a SIGBUS; reserved here, they are
        // an error with figures.
        match memory::reserve(descriptor.as_fd(), 0, layout.segment_bytes) {
            Err(error) if memory::is_out_of_room(&error) => {
                let (available, total) = memory::shared_memory_room();
                let needed = layout.segment_bytes;
                return Err(SegmentError::NoRoom { needed, available, total });
            }
            result => result.map_err(|source| SegmentError::System {
                action: "reserve the segment's pages",
                source,
            })?,
        }
        let base = NonNull::new(mapping.as_ptr()).ok_or_else(|| SegmentError::System {
            action: "map the segment",
            source: io::ErrorKind::AddrNotAvailable.into(),
        })?;
        // SAFETY: `mapping` has at least `segment_bytes` bytes at a page boundary, readable and
        // writable, and lives as long as the region does, inside the same struct. Its slice
        // methods, the only other door to the bytes, are not called.
        let region = unsafe { Region::new(base, layout) };
        region.populate();
        // SAFETY: nobody else has the segment yet.
        unsafe { region.initialise_lock() }.map_err(|source| SegmentError::System {
            action: "initialise the workers' lock",
            source,
        })?;
        region.publish();
        let identity = FileIdentity::of(descriptor.as_fd())
            .map_err(|source| SegmentError::System { action: "look at the segment", source })?;
        Ok(Self { region, descriptor, identity, _mapping: mapping })
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// What does not fit the slots.
    pub(crate) fn large(&self) -> LargeArea<'_> {
        LargeArea::new(self.descriptor(), self.identity, *self.region.layout())
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Creates a mapping through the `shared_memory` crate and makes it nameless.
///
/// The crate keeps its descriptor to itself, so the name is opened once more; then it is unlinked,
/// and the crate is told that it owns no name, or its `Drop` would unlink whoever has it then. The
/// name exists for microseconds; while it does, a lock on it says that its creator lives.
fn create_nameless(bytes: u64) -> Result<(Shmem, OwnedFd), SegmentError> {
    let system = |action| move |source| SegmentError::System { action, source };
    for _ in 0..ATTEMPTS {
        let mut random = [0; 16];
        memory::random_bytes(&mut random).map_err(system("draw a random name"))?;
        let name = format!("/{NAME_PREFIX}{:032x}", u128::from_ne_bytes(random));
        let mut mapping = match ShmemConf::new().os_id(&name).size(bytes as usize).create() {
            Ok(mapping) => mapping,
            Err(ShmemError::MappingIdExists) => continue,
            Err(error) => return Err(system("create shared memory")(to_io(&error))),
        };
        let descriptor = memory::open_named(&name);
        // From here on nothing may unlink by name but the line below.
        mapping.set_owner(false);
        let descriptor = match descriptor {
            Ok(descriptor) => descriptor,
            // A sweep took the name between its creation and its lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let _ = memory::unlink_named(&name);
                return Err(system("open shared memory")(error));
            }
        };
        // Whether the lock was had makes no difference to this process: the name goes now.
        memory::lock_named(descriptor.as_fd());
        match memory::unlink_named(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(system("unlink shared memory")(error));
            }
            _ => return Ok((mapping, descriptor)),
        }
    }
    Err(system("create shared memory")(io::ErrorKind::AlreadyExists.into()))
}

/// Removes names that a start left behind when it was killed in the microseconds it needs one.
/// A name that its creator still has is locked. Never judged by pid: containers share /dev/shm,
/// but not pids.
fn sweep() {
    for name in memory::shared_memory_names(NAME_PREFIX) {
        let Ok(descriptor) = memory::open_named(&name) else { continue };
        if memory::lock_named(descriptor.as_fd()) {
            tracing::info!(name, "removing a segment name that a killed start has left behind");
            let _ = memory::unlink_named(&name);
        }
    }
}

fn to_io(error: &ShmemError) -> io::Error {
    match error {
        ShmemError::MapCreateFailed(code)
        | ShmemError::MapOpenFailed(code)
        | ShmemError::UnknownOsError(code) => io::Error::from_raw_os_error(code.cast_signed()),
        other => io::Error::other(other.to_string()),
    }
}
