//! Objects in a bucket, for runs whose processes share no folder. Credentials, region and endpoint
//! come from the usual environment variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
//! `AWS_ALLOW_HTTP` ...).
//!
//! ```text
//!   write ─► buffer ─8 MiB─► part of an upload ... finish ─► complete     visible from here on
//!                '── finish, where it never was full ─► one request
//! ```
//! There is no thread behind it: whoever calls drives the runtime until the answer is there.

use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};

use super::{Store, StoreError, StoreWriter, check_name};

/// S3 takes parts from 5 MiB on, and ten thousand of them: 80 GB an object.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// A store in a bucket, below a prefix. It must not be called from within an async runtime.
pub struct S3Store {
    bucket: Arc<Bucket>,
    /// Empty, or with a `/` at its end.
    prefix: String,
}

struct Bucket {
    runtime: Runtime,
    client: AmazonS3,
}

impl S3Store {
    /// The store of `s3://bucket/prefix`.
    pub fn open(url: &str) -> Result<S3Store, StoreError> {
        let foreign = || StoreError::Url(url.to_owned());
        let place = url.strip_prefix("s3://").ok_or_else(foreign)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || (!prefix.is_empty() && check_name(prefix).is_err()) {
            return Err(foreign());
        }
        let settings = |reason: String| StoreError::Settings { url: url.to_owned(), reason };
        let client = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
        let client = client.map_err(|error| settings(error.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| settings(error.to_string()))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3Store { bucket: Arc::new(Bucket { runtime, client }), prefix })
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        check_name(name)?;
        parse(&format!("{}{name}", self.prefix))
    }

    /// Waits for an answer of the bucket.
    fn wait<T>(&self, answer: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        self.bucket.wait(answer)
    }
}

impl Bucket {
    fn wait<T>(&self, answer: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        Ok(self.runtime.block_on(answer)?)
    }
}

impl Store for S3Store {
    fn create(&self, name: &str) -> io::Result<Box<dyn StoreWriter>> {
        let (bucket, path) = (self.bucket.clone(), self.path(name)?);
        Ok(Box::new(S3Writer { bucket, path, buffer: Vec::new(), upload: None }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name)?;
        let bytes = self.wait(async { self.bucket.client.get(&path).await?.bytes().await })?;
        Ok(bytes.into())
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let path = self.path(name)?;
        // A bucket has no answer for no bytes, and cuts a range that goes beyond the end.
        if !range.is_empty() {
            match self.wait(self.bucket.client.get_range(&path, range.clone())) {
                Ok(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes.into()),
                Err(error) if self.size(name)? >= range.end => return Err(error),
                _ => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        if range.start == range.end && range.end <= self.size(name)? {
            return Ok(Vec::new());
        }
        Err(ErrorKind::UnexpectedEof.into())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let path = self.path(name)?;
        Ok(self.wait(self.bucket.client.head(&path))?.size)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        // The bucket is asked folder by folder, beginning with the one that the prefix stands in.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders = vec![parse(&format!("{}{folder}", self.prefix))?];
        let mut names = Vec::new();
        while let Some(folder) = folders.pop() {
            let found = self.wait(self.bucket.client.list_with_delimiter(Some(&folder)))?;
            folders.extend(found.common_prefixes);
            let all =
                found.objects.iter().filter_map(|object| object.location.as_ref().strip_prefix(&self.prefix));
            names.extend(all.filter(|name| name.starts_with(prefix)).map(String::from));
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        match self.wait(self.bucket.client.delete(&path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Uploads that were not completed cannot be seen from here; a life-cycle rule of the bucket
    /// (`AbortIncompleteMultipartUpload`) removes them.
    fn clean(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An object on its way to a bucket.
struct S3Writer {
    bucket: Arc<Bucket>,
    path: Path,
    buffer: Vec<u8>,
    /// Begun when the buffer is full for the first time; until then one request may do.
    upload: Option<Box<dyn MultipartUpload>>,
}

impl S3Writer {
    fn send_part(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        if self.upload.is_none() {
            self.upload = Some(self.bucket.wait(self.bucket.client.put_multipart(&self.path))?);
        }
        let upload = self.upload.as_mut().expect("it was begun just now");
        self.bucket.wait(upload.put_part(bytes.into()))
    }
}

impl Write for S3Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Sent by the write after, so that an object of just one part is one request.
        if self.buffer.len() >= PART_BYTES {
            self.send_part()?;
        }
        let taken = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StoreWriter for S3Writer {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.upload.is_none() {
            let bytes = std::mem::take(&mut self.buffer);
            return self.bucket.wait(self.bucket.client.put(&self.path, bytes.into())).map(drop);
        }
        self.send_part()?;
        let upload = self.upload.as_mut().expect("looked at above");
        self.bucket.wait(upload.complete())?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for S3Writer {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            // Where this fails, a rule of the bucket removes the parts.
            let _ = self.bucket.wait(upload.abort());
        }
    }
}

fn parse(path: &str) -> io::Result<Path> {
    Path::parse(path).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))
}
