"""What all HTML pages share: the style sheet, parts of templates, and what pictures are drawn on."""
