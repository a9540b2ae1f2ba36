//! Shared memory by name and by descriptor, its pages, and the page that a fork wipes.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::mman::{self, MapFlags, ProtFlags};
use nix::sys::stat::Mode;
use rustix::mm::Advice;

const SHARED_MEMORY_DIR: &str = "/dev/shm";

/// Fills `bytes` from the kernel's generator.
pub(crate) fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(bytes)
}

/// A random number from the kernel's generator.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Opens shared memory that exists under `name`.
pub(crate) fn open_named(name: &str) -> io::Result<OwnedFd> {
    Ok(mman::shm_open(name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Takes the name away; the memory stays for those who have it.
pub(crate) fn unlink_named(name: &str) -> io::Result<()> {
    Ok(mman::shm_unlink(name)?)
}

/// Tries to lock the memory behind `descriptor` (not its contents), until the descriptor closes.
pub(crate) fn lock_named(descriptor: BorrowedFd<'_>) -> bool {
    rustix::fs::flock(descriptor, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Names of shared memory that start with `prefix`, each with its leading slash.
pub(crate) fn shared_memory_names(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(SHARED_MEMORY_DIR) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .map(|name| format!("/{name}"))
        .collect()
}

/// Bytes of shared memory that are free, and that there are in all; zeros if nobody knows.
pub(crate) fn shared_memory_room() -> (u64, u64) {
    rustix::fs::statvfs(SHARED_MEMORY_DIR).map_or((0, 0), |room| {
        (room.f_bavail.saturating_mul(room.f_frsize), room.f_blocks.saturating_mul(room.f_frsize))
    })
}

/// Reserves the pages of this range behind `descriptor`; if there is no room for all, none.
pub(crate) fn reserve(descriptor: BorrowedFd<'_>, offset: u64, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(descriptor, rustix::fs::FallocateFlags::empty(), offset, bytes)
        {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Writes bytes at `offset`, taking pages for them. Somebody may change them meanwhile: no reference to
/// them is made.
///
/// # Safety
/// `start..start + bytes` must be readable.
///
/// # Errors
/// What the system said; some of the bytes may have been written.
pub(crate) unsafe fn write_at(
    descriptor: BorrowedFd<'_>,
    offset: u64,
    start: NonNull<u8>,
    bytes: usize,
) -> io::Result<()> {
    let number = descriptor.as_raw_fd();
    let mut done = 0;
    while done < bytes {
        let at = i64::try_from(offset + done as u64).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: `done < bytes`, so this is inside.
        let rest = unsafe { start.add(done) };
        // SAFETY: the kernel only reads so many bytes there, which the caller vouches for.
        let written =
            unsafe { libc::pwrite(number, rest.as_ptr().cast_const().cast(), bytes - done, at) };
        match usize::try_from(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Appends `len` bytes from `offset` to `into`. Where no page was ever written, zeros are read.
///
/// # Errors
/// What the system said, or an end before that many.
pub(crate) fn read_at<A: smallvec::Array<Item = u8>>(
    descriptor: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    into: &mut smallvec::SmallVec<A>,
) -> io::Result<()> {
    let before = into.len();
    into.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let end = before + len;
    while into.len() < end {
        let start = into.len();
        // SAFETY: `start <= end <= capacity`.
        let target = unsafe { into.as_mut_ptr().add(start) };
        // SAFETY: `end - start` bytes of the vector's own, which nobody else has.
        let room = unsafe {
            core::slice::from_raw_parts_mut(target.cast::<MaybeUninit<u8>>(), end - start)
        };
        match rustix::io::pread(descriptor, room, offset + (start - before) as u64) {
            Ok(([], _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((read, _)) => {
                let read = read.len();
                // SAFETY: that many more were just written, within the capacity.
                unsafe { into.set_len(start + read) };
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The same file by a descriptor of a higher number, where there are such.
pub(crate) fn duplicate_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// The usual limit is 1,024 descriptors.
    const HIGH: i32 = 1000;
    match rustix::io::fcntl_dupfd_cloexec(descriptor, HIGH) {
        // Fewer may be open.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::MFILE) => {
            Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?)
        }
        result => Ok(result?),
    }
}

/// Which file a descriptor is open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// # Errors
    /// What the system said: the descriptor is closed.
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let status = rustix::fs::fstat(descriptor)?;
        Ok(Self { device: status.st_dev, inode: status.st_ino })
    }
}

/// The longest file that this process may write, in bytes (`RLIMIT_FSIZE`).
pub(crate) fn file_size_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Gives the pages of this range back, if there are any.
pub(crate) fn give_back(descriptor: BorrowedFd<'_>, offset: u64, bytes: u64) {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    while rustix::fs::fallocate(descriptor, flags, offset, bytes) == Err(rustix::io::Errno::INTR) {}
}

/// Whether the error says that there is no room, rather than that something is wrong.
pub(crate) fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT))
}

/// Maps `bytes` of the shared memory behind `descriptor`, readable and writable, for as long as
/// the process lives.
pub(crate) fn map_shared(descriptor: BorrowedFd<'_>, bytes: u64) -> io::Result<NonNull<u8>> {
    map_range(descriptor, 0, bytes, Access::Write)
}

/// What a mapping may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::Read => ProtFlags::PROT_READ,
            Self::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        }
    }
}

fn length(bytes: u64) -> io::Result<NonZeroUsize> {
    let length = usize::try_from(bytes).ok().and_then(NonZeroUsize::new);
    length.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Maps `bytes` of the shared memory behind `descriptor`, from `offset` on, a multiple of the page
/// size. Pages need not be there yet: whoever touches one that is not, and that there is no room for,
/// gets a SIGBUS.
pub(crate) fn map_range(
    descriptor: BorrowedFd<'_>,
    offset: u64,
    bytes: u64,
    access: Access,
) -> io::Result<NonNull<u8>> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let (length, flags) = (length(bytes)?, MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice changes no existing memory.
    let base = unsafe { mman::mmap(None, length, access.protection(), flags, descriptor, offset) }?;
    Ok(base.cast())
}

/// As [`map_range`], at an address that is a multiple of `alignment`, itself one of the page size.
pub(crate) fn map_range_aligned(
    descriptor: BorrowedFd<'_>,
    offset: u64,
    bytes: u64,
    access: Access,
    alignment: usize,
) -> io::Result<NonNull<u8>> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let needed = length(bytes)?;
    let all = length(bytes.saturating_add(alignment as u64))?;
    let nothing = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice changes no existing memory.
    let base = unsafe { mman::mmap_anonymous(None, all, ProtFlags::PROT_NONE, nothing) }?;
    let base = base.cast::<u8>();
    let before = base.addr().get().next_multiple_of(alignment) - base.addr().get();
    // SAFETY: less than `alignment`, which is there beyond `bytes`.
    let start = unsafe { base.add(before) };
    let (protection, flags) = (access.protection(), MapFlags::MAP_SHARED | MapFlags::MAP_FIXED);
    // SAFETY: inside the new mapping, which nobody else has.
    let mapped =
        unsafe { mman::mmap(Some(start.addr()), needed, protection, flags, descriptor, offset) };
    if let Err(error) = mapped {
        // SAFETY: nobody has it.
        unsafe { unmap(base, all.get()) };
        return Err(error.into());
    }
    if before > 0 {
        // SAFETY: what the new mapping has in front of what is wanted of it.
        unsafe { unmap(base, before) };
    }
    // SAFETY: not behind the end of the new mapping.
    let end = unsafe { start.add(needed.get()) };
    // SAFETY: what it has behind: at least a page, since `before` is less than `alignment`.
    unsafe { unmap(end, alignment - before) };
    Ok(start)
}

/// Asks the kernel to put huge pages in the place of the small ones behind a mapping, in this process'
/// page tables too. No byte changes, whoever looks.
///
/// # Safety
/// `start..start + bytes` must be mapped, with pages behind all of it.
///
/// # Errors
/// The kernel has none, or cannot do it (before Linux 6.1); then some, or none, have been replaced.
pub(crate) unsafe fn collapse(start: NonNull<u8>, bytes: usize) -> io::Result<()> {
    /// Neither crate has it for all targets.
    const MADV_COLLAPSE: i32 = 25;
    // SAFETY: the caller vouches for the range; what is in it stays.
    let result = unsafe { libc::madvise(start.as_ptr().cast(), bytes, MADV_COLLAPSE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes a mapping, or whole pages of one, away.
///
/// # Safety
/// The pages must be the caller's, and nobody may use them any more.
pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise. It fails only for what is no range of pages.
    let _ = unsafe { mman::munmap(start.cast(), bytes) };
}

/// Puts a private copy in the place of mapped pages, at once: who reads them meanwhile sees no gap, and
/// what is written to the memory behind them is not seen any more.
///
/// # Safety
/// `start..start + bytes` must be whole pages that are mapped readable, with memory behind them, and
/// the caller's to remap.
///
/// # Errors
/// There is no memory for a copy, or what else the system said. There may be nothing any more then.
pub(crate) unsafe fn make_private(
    start: NonNull<u8>,
    bytes: usize,
    access: Access,
) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let copy = unsafe { copy_aside(start, bytes, access) }?;
    // SAFETY: the copy is ours and as long; what it replaces the caller lets go.
    unsafe { move_over(copy, start, bytes) }.inspect_err(|_| {
        // SAFETY: the new mapping, which nobody has seen.
        unsafe { unmap(copy, bytes) };
    })
}

/// A private copy of mapped pages, somewhere else.
///
/// # Safety
/// `start..start + bytes` must be whole pages that are mapped readable, with memory behind them.
///
/// # Errors
/// There is no memory for a copy, or what else the system said.
pub(crate) unsafe fn copy_aside(
    start: NonNull<u8>,
    bytes: usize,
    access: Access,
) -> io::Result<NonNull<u8>> {
    let writable = Access::Write.protection();
    let length = length(bytes as u64)?;
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let copy = unsafe { mman::mmap_anonymous(None, length, writable, MapFlags::MAP_PRIVATE) }?;
    // SAFETY: both have so many bytes, the one is new, and the caller vouches for the other.
    unsafe { copy.cast::<u8>().copy_from_nonoverlapping(start, bytes) };
    // SAFETY: the new mapping, which nobody has seen yet.
    match unsafe { mman::mprotect(copy, bytes, access.protection()) } {
        Ok(()) => Ok(copy.cast()),
        Err(error) => {
            // SAFETY: as above.
            unsafe { unmap(copy.cast(), bytes) };
            Err(error.into())
        }
    }
}

/// Moves mapped pages to the place of others, at once.
///
/// # Safety
/// Both must be whole pages that are mapped, apart from each other, and the caller's to remap; of the
/// ones that are moved nobody may have the address.
///
/// # Errors
/// What the system said. There may be nothing any more where they were to go.
pub(crate) unsafe fn move_over(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> io::Result<()> {
    let flags = mman::MRemapFlags::MREMAP_MAYMOVE | mman::MRemapFlags::MREMAP_FIXED;
    // SAFETY: the caller's promise.
    let moved = unsafe { mman::mremap(from.cast(), bytes, bytes, flags, Some(to.cast())) };
    Ok(moved.map(drop)?)
}

/// Whether forked children have mapped pages too. (What is mapped anew, they have.)
///
/// # Safety
/// `start..start + bytes` must be whole pages that are mapped, and the caller's to keep from children.
///
/// # Errors
/// What the system said: it has no memory for it.
pub(crate) unsafe fn set_inherited(
    start: NonNull<u8>,
    bytes: usize,
    inherited: bool,
) -> io::Result<()> {
    let advice = if inherited { Advice::LinuxDoFork } else { Advice::LinuxDontFork };
    // SAFETY: the caller's promise; no byte of this process' own memory changes.
    Ok(unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, advice) }?)
}

/// How many bytes a page has.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The next multiple of the page size.
pub(crate) fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(page_size())
}

/// The size of the shared memory behind `descriptor`.
pub(crate) fn size_of_shared(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    let status = rustix::fs::fstat(descriptor)?;
    u64::try_from(status.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// How many pages there are behind `descriptor`, of 4,096 bytes.
#[cfg(test)]
pub(crate) fn pages_behind(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(descriptor)?.st_blocks.cast_unsigned() / 8)
}

/// Puts the pages into this process' page tables, so that no call pays for a first touch.
///
/// # Safety
/// `base..base + bytes` must be mapped readable and writable, with pages behind all of it, and
/// hold nothing but atomics and bytes reached through raw pointers.
pub(crate) unsafe fn populate(base: NonNull<u8>, bytes: usize) {
    let start = base.as_ptr().cast::<c_void>();
    // SAFETY: the range is mapped; populating changes no byte of it.
    let populated = unsafe { rustix::mm::madvise(start, bytes, Advice::LinuxPopulateWrite) };
    if populated.is_ok() {
        return;
    }
    // Before Linux 5.14: touch each page with a write that changes nothing, whoever else writes.
    let page = page_size();
    for offset in (0..bytes).step_by(page) {
        // SAFETY: within the range.
        let word = unsafe { base.add(offset) };
        // SAFETY: mapped, aligned to a page, and shared as an atomic by everybody.
        let word: &AtomicU32 = unsafe { word.cast().as_ref() };
        word.fetch_add(0, Ordering::Relaxed);
    }
}

/// Tells the process that made it from its forked children, at the price of a load: a page that
/// the kernel wipes in each child.
pub(crate) struct ForkWitness {
    page: NonNull<AtomicU32>,
    bytes: NonZeroUsize,
}

// SAFETY: the page is an atomic that is written once, before the witness exists.
unsafe impl Send for ForkWitness {}
// SAFETY: as for `Send`.
unsafe impl Sync for ForkWitness {}

impl ForkWitness {
    pub(crate) fn new() -> io::Result<Self> {
        let bytes = NonZeroUsize::new(page_size())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let page = unsafe { mman::mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE) }?;
        let witness = Self { page: page.cast(), bytes };
        // SAFETY: the page was just mapped and nobody else knows it.
        unsafe { rustix::mm::madvise(page.as_ptr(), bytes.get(), Advice::LinuxWipeOnFork) }?;
        witness.word().store(1, Ordering::Relaxed);
        Ok(witness)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped until `Drop`, aligned to a page, only ever used as this atomic.
        unsafe { self.page.as_ref() }
    }

    /// Whether this process is a forked child of the one that made the witness.
    #[inline]
    pub(crate) fn in_forked_child(&self) -> bool {
        // Relaxed: the word never changes within a process.
        self.word().load(Ordering::Relaxed) == 0
    }
}

impl Drop for ForkWitness {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and nothing borrows from `self` any more.
        let _ = unsafe { mman::munmap(self.page.cast(), self.bytes.get()) };
    }
}

/// Makes sure that descriptors 0, 1 and 2 are taken, so that none of ours becomes somebody's
/// standard output. What was closed is /dev/null while the result lives, in children too.
pub(crate) fn occupy_standard_descriptors() -> io::Result<Vec<OwnedFd>> {
    use rustix::fs::{Mode, OFlags};
    let mut taken = Vec::new();
    loop {
        // Not closed on exec, on purpose.
        let descriptor = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
        if descriptor.as_raw_fd() > 2 {
            return Ok(taken);
        }
        taken.push(descriptor);
    }
}

/// Keeps `descriptor` open across an exec. For use between fork and exec.
pub(crate) fn keep_over_exec(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor.as_fd(), rustix::io::FdFlags::empty())?)
}

/// The descriptor's number, to hand it to an exec'd process as an argument.
pub(crate) fn number_of(descriptor: BorrowedFd<'_>) -> i32 {
    descriptor.as_raw_fd()
}
