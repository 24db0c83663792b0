fn main() {
    let mut buffer = itoa::Buffer::new();
    println!("rust counts to {}", buffer.format(42u8));
}
