"""What stands in the domain's XML, pure: the agreement this host writes, and what the rest of the XML tells.

``agreement`` renders and parses our one element; ``domain_xml`` reads channels, record and name out of a whole
domain XML; ``policy`` reads and judges what the operator requires. Whatever came along with a guest is untrusted: it is
parsed within bounds or ignored, never an obstacle.
"""
