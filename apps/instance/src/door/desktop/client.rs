//! A small RFB client (RFC 6143): takes pictures and gives input. The server is the tenant's, and may say anything.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use super::socket::Socket;

/// The most pixels of a desktop of which a picture is taken; three bytes each are kept.
const MAX_PIXELS: usize = 1 << 24;
/// The longest text of the server's that is read (and not looked at): names, cut text.
const MAX_TEXT: u64 = 16 << 20;
/// Red, green, blue and nothing, a byte each.
const PIXEL_FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0];
const RAW: i32 = 0;
const DESKTOP_SIZE: i32 = -223;

/// A connection between two messages.
#[derive(Debug)]
pub(super) struct Client {
    socket: BufReader<Socket>,
    width: u16,
    height: u16,
}

/// What the screen showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Red, green and blue of each pixel, row by row.
    pub(super) pixels: Vec<u8>,
}

impl Client {
    /// Shakes hands on a new connection.
    ///
    /// # Errors
    /// Where the server asks for a password or makes no sense.
    pub(super) async fn connect(socket: Socket) -> io::Result<Self> {
        let mut socket = BufReader::with_capacity(16 * 1024, socket);
        let mut version = [0; 12];
        socket.read_exact(&mut version).await?;
        if &version != b"RFB 003.008\n" {
            return Err(nonsense("the VNC server does not speak RFB 3.8"));
        }
        socket.write_all(&version).await?;
        let count = socket.read_u8().await?;
        let mut types = vec![0; usize::from(count)];
        socket.read_exact(&mut types).await?;
        if !types.contains(&1) {
            return Err(nonsense("the VNC server asks for a password"));
        }
        socket.write_u8(1).await?;
        if socket.read_u32().await? != 0 {
            return Err(nonsense("the VNC server refuses connections"));
        }
        socket.write_u8(1).await?;
        let (width, height) = (socket.read_u16().await?, socket.read_u16().await?);
        skip(&mut socket, 16).await?;
        let name = socket.read_u32().await?;
        skip(&mut socket, name.into()).await?;
        let mut hello = vec![0, 0, 0, 0];
        hello.extend(PIXEL_FORMAT);
        hello.extend([2, 0, 0, 2]);
        hello.extend(RAW.to_be_bytes());
        hello.extend(DESKTOP_SIZE.to_be_bytes());
        socket.write_all(&hello).await?;
        Ok(Self { socket, width, height })
    }

    /// Returns the size of the desktop, in pixels.
    pub(super) fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// Takes a picture of all of the desktop, with the pointer in it.
    ///
    /// # Cancel safety
    /// Dropped, the connection is of no use any more; so after an error.
    pub(super) async fn picture(&mut self) -> io::Result<Picture> {
        let mut canvas = self.canvas()?;
        let mut missing = canvas.width * canvas.height;
        self.ask_for(self.width, self.height).await?;
        loop {
            let (painted, is_resized) = self.update(Some(&mut canvas)).await?;
            if is_resized {
                canvas = self.canvas()?;
                missing = canvas.width * canvas.height;
                self.ask_for(self.width, self.height).await?;
            } else if painted >= missing {
                return Ok(canvas);
            } else {
                missing -= painted;
            }
        }
    }

    /// Sends whole messages.
    pub(super) async fn send(&mut self, messages: &[u8]) -> io::Result<()> {
        self.socket.write_all(messages).await
    }

    /// Waits until the server has taken everything that was sent.
    ///
    /// # Cancel safety
    /// As [`Client::picture`].
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        // It answers in order, and a pixel costs nothing.
        self.ask_for(1, 1).await?;
        while self.update(None).await?.0 == 0 {}
        Ok(())
    }

    fn canvas(&self) -> io::Result<Picture> {
        let (width, height) = (usize::from(self.width), usize::from(self.height));
        if width * height == 0 || width * height > MAX_PIXELS {
            return Err(nonsense("the desktop is too large for a picture"));
        }
        Ok(Picture { width, height, pixels: vec![0; 3 * width * height] })
    }

    /// Asks for the upper left of the desktop, whether it has changed or not.
    async fn ask_for(&mut self, width: u16, height: u16) -> io::Result<()> {
        let ([w0, w1], [h0, h1]) = (width.to_be_bytes(), height.to_be_bytes());
        self.socket.write_all(&[3, 0, 0, 0, 0, 0, w0, w1, h0, h1]).await
    }

    /// Reads messages up to the end of the next update; returns how many pixels came, and whether the size is another.
    async fn update(&mut self, mut canvas: Option<&mut Picture>) -> io::Result<(usize, bool)> {
        loop {
            match self.socket.read_u8().await? {
                0 => break,
                // Colours of a palette that we do not use.
                1 => {
                    skip(&mut self.socket, 3).await?;
                    let count = self.socket.read_u16().await?;
                    skip(&mut self.socket, 6 * u64::from(count)).await?;
                }
                // The bell.
                2 => {}
                // Cut text.
                3 => {
                    skip(&mut self.socket, 3).await?;
                    let length = self.socket.read_i32().await?;
                    skip(&mut self.socket, length.unsigned_abs().into()).await?;
                }
                _ => return Err(nonsense("the VNC server sent a message that nobody asked for")),
            }
        }
        skip(&mut self.socket, 1).await?;
        let (mut painted, mut is_resized) = (0, false);
        for _ in 0..self.socket.read_u16().await? {
            let mut rectangle = [0; 4];
            for number in &mut rectangle {
                *number = self.socket.read_u16().await?;
            }
            match self.socket.read_i32().await? {
                RAW => {
                    let target = canvas.as_deref_mut().filter(|_| !is_resized);
                    painted += self.paint(rectangle, target).await?;
                }
                DESKTOP_SIZE => {
                    is_resized = true;
                    [_, _, self.width, self.height] = rectangle;
                }
                _ => return Err(nonsense("the VNC server sent a picture that nobody can read")),
            }
        }
        Ok((painted, is_resized))
    }

    async fn paint(&mut self, rectangle: [u16; 4], canvas: Option<&mut Picture>) -> io::Result<usize> {
        let [x, y, width, height] = rectangle.map(usize::from);
        if x + width > usize::from(self.width) || y + height > usize::from(self.height) {
            return Err(nonsense("the VNC server painted beside the desktop"));
        }
        match canvas {
            None => skip(&mut self.socket, 4 * (width * height) as u64).await?,
            Some(canvas) => {
                let mut row = vec![0; 4 * width];
                for line in y..y + height {
                    self.socket.read_exact(&mut row).await?;
                    let start = 3 * (line * canvas.width + x);
                    let target = &mut canvas.pixels[start..start + 3 * width];
                    for (to, from) in target.chunks_exact_mut(3).zip(row.chunks_exact(4)) {
                        to.copy_from_slice(&from[..3]);
                    }
                }
            }
        }
        Ok(width * height)
    }
}

/// Reads bytes that nobody wants.
async fn skip(socket: &mut BufReader<Socket>, count: u64) -> io::Result<()> {
    if count > MAX_TEXT.max(4 * MAX_PIXELS as u64) {
        return Err(nonsense("the VNC server sends too much"));
    }
    let skipped = tokio::io::copy(&mut socket.take(count), &mut tokio::io::sink()).await?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn nonsense(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
