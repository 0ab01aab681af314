"""Documents as text: plain text and Markdown in any common encoding, HTML, PDF and DOCX.

reader      a file's text, or that of bytes
document    what comes of it
kinds       what bytes are, by what is in them
encodings   bytes to text
markup      HTML to text with Markdown's headings, lists and tables
pdf, docx   the same of these, by pypdf and mammoth
lines       lines of a page to paragraphs
pages       which pages
process     the process that reads what strangers made, seen from outside; worker: from inside
limits      how much of anything
names       names of files as people and terminals write them

Nothing in a document is fetched, run or written; SECURITY.md says what holds that.
"""
