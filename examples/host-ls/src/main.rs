//! Lists a directory of any 9P server, over a Unix or TCP socket: `host-ls unix:/run/9p.sock /etc` or
//! `host-ls tcp:host:564 /etc [TREE]`, where TREE is the aname that servers such as diod want to know.

use std::env::args;
use std::error::Error;

use p9_client::fs::{Fs, MountOptions};
use p9_client::transport::socket::Socket;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = args().skip(1).collect();
    let (Some(address), Some(path)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: host-ls unix:PATH|tcp:HOST:PORT DIRECTORY [TREE]".into());
    };
    let tree = arguments.get(2).map_or("", String::as_str);
    let fs = Fs::mount(Socket::connect(address)?, &MountOptions::new().tree(tree))?;
    for entry in fs.read_dir(path)?.with_metadata() {
        let (entry, metadata) = entry?;
        println!("{:>12} {}", metadata?.len(), entry.file_name_lossy());
    }
    Ok(())
}
