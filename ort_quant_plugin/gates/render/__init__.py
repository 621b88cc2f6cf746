"""What gates look like: plain text, a pull-request comment, a web page, annotations of code hosts."""
