"""The look of the page: a quiet, dense gradio theme, the style sheet and the script. All three belong to `launch()`."""

from __future__ import annotations

import gradio as gr

from explorer.ui.assets_files import read_asset

# Fonts of the reader's own machine: a web font would be a request to another host.
# Gradio confines its css setting to what lies inside this wrapper, whose margins take a fifth of a phone's width.
_NARROW = "@media (max-width: 640px) { .gradio-container .main.fillable { padding: 0 !important; } }"
_TEXT_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_CODE_FONT = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Small type, little padding, square-ish corners, no shadows; one blue for what can be pressed."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        spacing_size="sm",
        radius_size="sm",
        text_size="sm",
        font=_TEXT_FONT,
        font_mono=_CODE_FONT,
    ).set(
        body_text_color="#1d2733",
        body_text_color_dark="#e4e9ef",
        body_text_color_subdued="#56616e",
        body_text_color_subdued_dark="#a3aebb",
        body_background_fill="#ffffff",
        body_background_fill_dark="#12161c",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#12161c",
        background_fill_secondary="#f5f7f9",
        background_fill_secondary_dark="#1a2029",
        block_background_fill="#ffffff",
        block_background_fill_dark="#161b22",
        block_border_color="#dde3e9",
        block_border_color_dark="#2b333e",
        border_color_primary="#c9d1da",
        border_color_primary_dark="#3a4452",
        block_shadow="none",
        block_label_text_color="#56616e",
        block_label_text_color_dark="#a3aebb",
        block_title_text_color="#3a4552",
        block_title_text_color_dark="#c3ccd6",
        block_info_text_color="#56616e",
        block_info_text_color_dark="#a3aebb",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0d1116",
        input_border_width="1px",
        input_border_color="#aab4bf",
        input_border_color_dark="#4b5766",
        input_placeholder_color="#69747f",
        input_placeholder_color_dark="#8f9baa",
        button_primary_background_fill="#1f62a8",
        button_primary_background_fill_hover="#184f8a",
        button_primary_background_fill_dark="#2a6fb8",
        button_primary_background_fill_hover_dark="#2462a5",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#eef1f4",
        button_secondary_background_fill_hover="#e2e7ec",
        button_secondary_background_fill_dark="#252d37",
        button_secondary_background_fill_hover_dark="#303a46",
        button_secondary_text_color="#1d2733",
        button_secondary_text_color_dark="#e4e9ef",
        table_even_background_fill="#ffffff",
        table_even_background_fill_dark="#161b22",
        table_odd_background_fill="#f5f7f9",
        table_odd_background_fill_dark="#1a2029",
        table_border_color="#dde3e9",
        table_border_color_dark="#2b333e",
        table_text_color="#1d2733",
        table_text_color_dark="#e4e9ef",
        button_large_text_size="*text_md",
        link_text_color="#1f62a8",
        link_text_color_dark="#7db4ec",
        shadow_drop="none",
        shadow_drop_lg="none",
    )


def css() -> str:
    """The style sheet, for `launch(css=...)`."""
    return read_asset("style.css")


def head() -> str:
    """The script and the one rule that must stand outside the style sheet, for `launch(head=...)`."""
    return f"<style>{_NARROW}</style>\n<script>\n{read_asset('page.js')}\n</script>"
