"""p"""
def page(reports):
    return ""
