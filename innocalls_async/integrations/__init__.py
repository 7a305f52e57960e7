"""What joins the library to other people's: each module needs the extra of its name."""
